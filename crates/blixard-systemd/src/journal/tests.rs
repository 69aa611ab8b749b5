//! The child's arguments, and what becomes of its output, with a script in its place.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use futures_util::StreamExt;
use tempfile::TempDir;

use super::*;

const ALL: LogQuery = LogQuery { tail: None, follow: false };

fn unit() -> RunUnitName {
    RunUnitName::of(&"a/b-c".parse().unwrap())
}

/// A `journalctl` that runs this shell script.
fn script(body: &str) -> (TempDir, Journalctl) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("journalctl");
    std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    (directory, Journalctl::new(program))
}

async fn texts(body: &str) -> Vec<Result<String, String>> {
    let (_directory, journal) = script(body);
    let lines = journal.lines(unit(), ALL).await.unwrap();
    let text = |line: Result<LogLine, JournalError>| line.map(|line| line.text).map_err(|error| error.reason);
    lines.map(text).collect().await
}

#[test]
fn a_log_is_asked_for_by_fields_that_only_journald_writes() {
    let followed = LogQuery { tail: Some(20), follow: true };
    insta::assert_snapshot!(arguments(&unit(), followed).join("\n"), @r"
    --output=json
    --output-fields=MESSAGE
    --all
    --no-pager
    --quiet
    --lines=20
    --follow
    _SYSTEMD_UNIT=blixard-vm-a-b\x2dc-run.service
    _TRANSPORT=stdout
    ");
    assert!(arguments(&unit(), ALL).contains(&"--lines=all".to_owned()));
}

#[tokio::test]
async fn lines_come_in_order_and_then_the_stream_ends() {
    let body = r#"for text in one two; do
        echo "{\"__REALTIME_TIMESTAMP\":\"1\",\"MESSAGE\":\"$text\"}"
    done"#;
    assert_eq!(texts(body).await, [Ok("one".to_owned()), Ok("two".to_owned())]);
}

#[tokio::test]
async fn an_entry_that_is_too_long_is_left_out() {
    let body = r#"
        printf '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"'
        head -c 2000000 /dev/zero | tr '\0' x
        echo '"}'
        echo '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"next"}'"#;
    assert_eq!(texts(body).await, [Ok("next".to_owned())]);
}

#[tokio::test]
async fn a_failure_is_the_last_item_and_says_what_journalctl_said() {
    assert_eq!(
        texts("echo 'No journal files were found.' >&2; exit 1").await,
        [Err("exit status: 1: No journal files were found.".to_owned())]
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_at_once() {
    let journal = Journalctl::new("/nowhere/journalctl");
    let error = journal.lines(unit(), ALL).await.err().unwrap();
    assert!(error.reason.starts_with("/nowhere/journalctl: "), "{error}");
}
