use blixard_core::ports::nix::BuildError;

use super::failure;
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
