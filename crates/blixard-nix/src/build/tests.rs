use blixard_core::ports::nix::BuildError;

use super::{failure, settings};
use crate::cli::BuildLimits;
use crate::command::Line;
use crate::internal_json::Interpreter;

fn told(lines: &str) -> String {
    let mut said = Interpreter::default();
    for line in lines.lines() {
        said.line(Line::Whole(line.as_bytes()));
    }
    match failure(&said) {
        Some(BuildError::Failed { drv, message, log_tail }) => {
            format!("{drv}\n{message}\n{} lines of log", log_tail.len())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn the_first_failed_derivation_is_told_with_its_log() {
    insta::assert_snapshot!(told(include_str!("../internal_json/recorded/2.26.3/build-failed.log")), @"
    /nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv
    builder for '/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv' failed with exit code 3
    25 lines of log
    ");
    insta::assert_snapshot!(told(include_str!("../internal_json/recorded/2.34.8/build-failed.log")), @"
    /nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv
    Cannot build '/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv'.
    Reason: builder failed with exit code 3.
    25 lines of log
    ");
}

#[test]
fn an_error_that_names_no_derivation_is_the_commands() {
    assert_eq!(told(r#"@nix {"action":"msg","level":0,"msg":"","raw_msg":"no space left"}"#), "None");
}

#[test]
fn a_builder_that_nix_has_stopped_for_its_time_is_told_of_by_that() {
    let drv = "/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-hangs.drv";
    for ending in ["", " of silence"] {
        let message = format!("building of '{drv}' timed out after 5 seconds{ending}");
        let line = serde_json::json!({ "action": "msg", "level": 0, "msg": message, "raw_msg": message });
        let mut said = Interpreter::default();
        said.line(Line::Whole(format!("@nix {line}").as_bytes()));
        let Some(BuildError::TimeLimit { drv: told, message: words }) = failure(&said) else {
            panic!("{:?}", failure(&said));
        };
        assert_eq!((told.as_str(), words), (drv, message));
    }
}

#[test]
fn a_client_asks_only_for_what_is_configured() {
    let limits = BuildLimits { timeout_s: 7, max_silent_s: 5, ..BuildLimits::default() };
    assert_eq!(settings(&limits), ["--timeout", "7", "--max-silent-time", "5"]);
    let more = BuildLimits { max_jobs: Some(4), cores: Some(2), ..limits };
    assert_eq!(settings(&more)[4..], ["--max-jobs", "4", "--cores", "2"]);
}
