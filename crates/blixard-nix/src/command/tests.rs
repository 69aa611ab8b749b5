use std::path::Path;

use blixard_core::ports::nix::NixCommandError;

use super::lines::LINE_MAX;
use super::{Line, LineSplitter, NixCommand};

fn shell(script: &str) -> NixCommand {
    NixCommand::new(Path::new("/bin/sh"), "-c").args(["-c", script])
}

fn text(line: Line<'_>) -> String {
    match line {
        Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Line::Cut(bytes) => format!("{}… cut", bytes.len()),
    }
}

fn split(chunks: &[&[u8]]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut splitter = LineSplitter::default();
    for chunk in chunks {
        splitter.push(chunk, &mut |line| lines.push(text(line)));
    }
    splitter.finish(&mut |line| lines.push(text(line)));
    lines
}

#[test]
fn lines_are_found_wherever_the_chunks_end() {
    assert_eq!(split(&[b"a\nb", b"c\n", b"\nd"]), ["a", "bc", "", "d"]);
    assert_eq!(split(&[b"a\n"]), ["a"]);
    assert!(split(&[b""]).is_empty());
}

#[test]
fn a_line_over_the_bound_is_cut_and_the_next_one_is_whole() {
    let long = vec![b'x'; LINE_MAX];
    assert_eq!(split(&[&long, b"tail\n", b"next\n"]), [format!("{LINE_MAX}… cut"), "next".to_owned()]);
    assert_eq!(split(&[&long, b"\n"]), ["x".repeat(LINE_MAX)]);
}

#[tokio::test]
async fn output_lines_and_status_are_reported() {
    let mut lines = Vec::new();
    let finished = shell("echo out; echo one >&2; echo two >&2; exit 3")
        .run(|line| lines.push(text(line)))
        .await
        .unwrap();
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.status.code(), Some(3));
    assert_eq!(lines, ["one", "two"]);
}

#[tokio::test]
async fn a_program_that_prints_for_ever_is_stopped() {
    let error = shell("exec yes").stdout_max(100_000).run(|_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "sh -c printed something unexpected: more than 100000 bytes");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = NixCommand::new(Path::new("/nowhere/nix"), "eval").run(|_| ()).await.unwrap_err();
    assert!(
        matches!(&error, NixCommandError::Start { program, .. } if program == "/nowhere/nix"),
        "{error:?}"
    );
}

#[tokio::test]
async fn nothing_waits_for_input() {
    let finished = shell("cat; echo done").run(|_| ()).await.unwrap();
    assert_eq!(finished.stdout, b"done\n");
}

#[tokio::test]
async fn a_process_does_not_outlive_the_future_that_runs_it() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let command = shell("echo $$ >&2; exec tail -f /dev/null");
    let running = command.run(|line| {
        if let Some(tell) = tell.take() {
            tell.send(text(line)).unwrap();
        }
    });
    let pid = tokio::select! {
        ended = running => panic!("{ended:?}"),
        pid = told => pid.unwrap(),
    };
    let status = format!("/proc/{pid}/status");
    // It was sent SIGKILL; between that and its end it is of nobody's interest.
    while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
        tokio::task::yield_now().await;
    }
}
