use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::confined::{LimitReached, Limits, Network};
use blixard_core::ports::nix::{EvaluateError, FlakeOutput, LockedSource, NixCommandError, Selection};
use blixard_testkit::fake::confined::ChildProcesses;

use super::expression::{Wanted, describing, nix_string};
use super::outcome::{Culprit, failed};
use super::printed;
use super::{Evaluation, Trace, command_error, silent};
use crate::command::{Cell, Line};
use crate::internal_json::Interpreter;

const VM: &str = r#""output":"microvms","name":"web","system":"x86_64-linux","spec":null"#;
const DRV: &str = "/nix/store/6fvigk1lfrkq0yn3v9063brlvscc31k6-web.drv";
const OUT: &str = "/nix/store/m3k2prd15qqhazcwmjg9gwk0cq3lyj42-web";

fn source() -> LockedSource {
    LockedSource {
        path: "/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source".parse().unwrap(),
        nar_hash: "sha256-JcVylkfjfT3hOFFcHEV27GpDYe3yqaH57CxXhDw9FXo=".parse().unwrap(),
        rev: None,
        rev_count: None,
        last_modified: None,
        subdir: String::new(),
        lock: None,
    }
}

fn cell() -> Cell {
    let limits = Limits {
        time_ms: 60_000,
        memory_max: 1 << 30,
        tasks_max: 64,
        stdout_max: 1 << 20,
        stderr_max: 1 << 20,
    };
    Cell { confinement: Arc::new(ChildProcesses), purpose: "evaluate", network: Network::None, limits }
}

fn wanted(name: &str) -> Wanted {
    Wanted { output: None, name: name.to_owned() }
}

fn said(lines: &str) -> Interpreter {
    let mut said = Interpreter::default();
    for line in lines.lines() {
        said.line(Line::Whole(line.as_bytes()));
    }
    said
}

fn told(attribute: &str, lines: &str) -> String {
    let said = said(lines);
    let culprit = Culprit::new(Some(wanted(attribute).attribute()), &said, &source());
    match failed(culprit.into_iter().collect(), &said) {
        EvaluateError::Failed { message, position: Some(at) } => {
            format!("{message}\nat {}:{}:{}", at.file, at.line, at.column)
        }
        other => format!("{other:?}"),
    }
}

fn read(drv: &str, out: &str) -> String {
    let json = format!(r#"{{"provides":true,"missing":[],"vms":[{{{VM},"drv":{drv},"out":{out}}}]}}"#);
    match printed::vms(json.as_bytes()) {
        Ok(vms) => format!("{vms:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_command_is_pure_and_takes_nothing_from_the_flake() {
    let source = source();
    let cell = cell();
    let command = Evaluation::new(Path::new("nix"), &cell, &source).command("f", Trace::Short);
    insta::assert_debug_snapshot!(command, @r#"
    NixCommand {
        program: "nix",
        arguments: [
            "eval",
            "--json",
            "path:/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source?narHash=sha256-JcVylkfjfT3hOFFcHEV27GpDYe3yqaH57CxXhDw9FXo%3D#.",
            "--apply",
            "f",
            "--extra-experimental-features",
            "nix-command flakes",
            "--log-format",
            "internal-json",
            "--no-write-lock-file",
            "--no-eval-cache",
            "--option",
            "allow-import-from-derivation",
            "false",
            "--option",
            "accept-flake-config",
            "false",
            "--option",
            "pure-eval",
            "true",
            "--offline",
        ],
        label: "nix eval",
        stdout_max: 67108864,
        by_daemon: false,
    }
    "#);
}

#[test]
fn names_are_strings_of_nix_and_never_code() {
    assert_eq!(nix_string("web"), r#""web""#);
    assert_eq!(nix_string(r#"a"; builtins.abort ""#), r#""a\"; builtins.abort \"""#);
    assert_eq!(nix_string("${evil}"), r#""\${evil}""#);
    assert_eq!(nix_string("$${x} \\${y}"), r#""\$\${x} \\\${y}""#);
    assert_eq!(nix_string("a\r\nb\tc"), r#""a\r\nb\tc""#);
    let plain = Wanted { output: Some(FlakeOutput::Configurations), name: "\" ]".to_owned() };
    let apply = describing(Some(&[wanted("a b"), plain]));
    let asked = r#"[ { output = null; name = "a b"; } { output = "nixosConfigurations"; name = "\" ]"; } ]"#;
    assert!(apply.ends_with(&format!(") {{ describe = true; ask = {asked}; }}")), "{apply}");
    assert!(describing(None).ends_with(") { describe = true; ask = null; }"));
}

#[test]
fn attributes_are_shown_as_they_are_written() {
    assert_eq!(wanted("web-1").attribute(), "microvms.web-1");
    assert_eq!(wanted("1").attribute(), r#"microvms."1""#);
    assert_eq!(wanted("a.b").attribute(), r#"microvms."a.b""#);
    assert_eq!(wanted("").attribute(), r#"microvms."""#);
    let plain = Wanted { output: Some(FlakeOutput::Configurations), name: "web".to_owned() };
    assert_eq!(plain.attribute(), "nixosConfigurations.web");
}

#[test]
fn a_failure_is_told_with_the_innermost_place_in_the_users_tree() {
    for lines in [
        include_str!("../internal_json/recorded/2.26.3/throw.log"),
        include_str!("../internal_json/recorded/2.34.8/throw.log"),
    ] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(told("throws", lines), @"
            microvms.throws: memory must be positive
            at sub/bad.nix:2:3
            ");
        }
    }
    insta::assert_snapshot!(told("web", include_str!("../internal_json/recorded/2.34.8/missing-attribute.log")), @"
    microvms.web: attribute 'nonesuch' missing
    at flake.nix:15:24
    ");
}

#[test]
fn a_place_outside_of_the_users_tree_is_better_than_none() {
    insta::assert_snapshot!(told("web", include_str!("../internal_json/recorded/2.34.8/syntax-error.log")), @"
    microvms.web: syntax error, unexpected ';'
    at /nix/store/7m9py46ymnrd5s1cn2bhyg0008k4bpz1-source/flake.nix:1:42
    ");
}

#[test]
fn a_flake_without_vms_and_a_vm_that_is_not_there_are_told_apart() {
    let read = |json: &str| printed::vms(json.as_bytes()).unwrap_err().to_string();
    let none = r#"{"provides":false,"missing":[],"vms":[]}"#;
    assert_eq!(read(none), "the flake has no output `microvms`");
    let missing = r#"{"provides":true,"missing":[{"output":"nixosConfigurations","name":"web"}],"vms":[]}"#;
    assert_eq!(read(missing), "the flake has no output `nixosConfigurations.web`");
}

#[test]
fn a_vm_is_read_as_it_is_printed() {
    let vms = read(&format!("{DRV:?}"), &format!("{OUT:?}"));
    assert!(vms.contains(DRV) && vms.contains(OUT), "{vms}");
}

#[test]
fn what_is_no_store_path_is_refused_with_the_vm_and_the_field() {
    insta::assert_snapshot!(read(r#""/etc/passwd""#, &format!("{OUT:?}")), @r#"the evaluation's result cannot be read: drvPath of `microvms.web` is "/etc/passwd", not a derivation in the store"#);
    insta::assert_snapshot!(read(&format!("{OUT:?}"), &format!("{OUT:?}")), @r#"the evaluation's result cannot be read: drvPath of `microvms.web` is "/nix/store/m3k2prd15qqhazcwmjg9gwk0cq3lyj42-web", not a derivation in the store"#);
    insta::assert_snapshot!(read(&format!("{DRV:?}"), r#""/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9""#), @r#"the evaluation's result cannot be read: outPath of `microvms.web` is "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9", not a store path known before it is built"#);
    insta::assert_snapshot!(read(&format!("{DRV:?}"), "{}"), @"the evaluation's result cannot be read: outPath of `microvms.web` is {}, not a store path known before it is built");
}

#[test]
fn each_limit_is_told_with_its_number() {
    let told = |limit| {
        let command = "nix eval".to_owned();
        command_error(NixCommandError::Limit { command, limit }).to_string()
    };
    assert_eq!(told(LimitReached::Time(60_000)), "the evaluation was stopped: it took longer than 60 s");
    assert_eq!(
        told(LimitReached::Memory(512 << 20)),
        "the evaluation was stopped: it needed more than 512 MiB of memory"
    );
    assert_eq!(
        told(LimitReached::Output(16 << 20)),
        "the evaluation was stopped: it printed more than 16 MiB"
    );
}

/// Evaluates with this shell script for Nix.
async fn with_nix(script: &str, cell: &Cell) -> EvaluateError {
    let folder = tempfile::tempdir().unwrap();
    let nix = folder.path().join("nix");
    std::fs::write(&nix, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&nix, mode).unwrap();
    let source = source();
    Evaluation::new(&nix, cell, &source).run(Selection::All, &silent()).await.unwrap_err()
}

#[tokio::test]
async fn a_heap_that_is_full_is_a_limit_and_nobody_is_blamed_by_evaluating_again() {
    let calls = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "echo x >> {}; echo 'GC Warning: Out of Memory! Heap size: 9 MiB. Returning NULL!' >&2; exit 1",
        calls.path().display()
    );
    let error = with_nix(&script, &cell()).await;
    assert!(matches!(error, EvaluateError::MemoryLimit { mib: 1024 }), "{error:?}");
    assert_eq!(std::fs::read_to_string(calls.path()).unwrap(), "x\n");
}

#[tokio::test]
async fn what_prints_or_runs_for_ever_is_stopped_at_its_limit() {
    let error = with_nix("while :; do echo too much >&2; done", &cell()).await;
    assert!(matches!(error, EvaluateError::OutputLimit { mib: 1 }), "{error:?}");
    let mut short = cell();
    short.limits.time_ms = 1_000;
    let error = with_nix("exec sleep 1000", &short).await;
    assert!(matches!(error, EvaluateError::TimeLimit { seconds: 1 }), "{error:?}");
}

#[tokio::test]
async fn an_error_too_long_with_its_frames_is_told_without_them() {
    let line = r#"@nix {"action":"msg","level":0,"msg":"x","raw_msg":"stack overflow"}"#;
    let script = format!(
        r#"case "$*" in
          *"describe = false"*)
            echo '{{"provides":true,"missing":[],"vms":[{{"output":"microvms","name":"web"}}]}}'; exit 0 ;;
          *--show-trace*) head -c 1100000 /dev/zero | tr '\\0' x >&2 ;;
          *) echo '{line}' >&2 ;;
        esac
        exit 1"#
    );
    let mut wide = cell();
    wide.limits.stderr_max = 4 << 20;
    let error = with_nix(&script, &wide).await;
    assert_eq!(error.to_string(), "evaluation failed: microvms.web: stack overflow");
}
