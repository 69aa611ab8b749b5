//! `blixard vm logs`.

use std::io::{self, Write};

use blixard_proto::v1::LogLine;
use tonic::Status;

use super::daemon::{Daemon, Script};
use crate::flake::Nix;
use crate::run::{World, run};

fn lines() -> Vec<Result<LogLine, Status>> {
    let line = |at_ms, text: &str| Ok(LogLine { at_ms, text: text.to_owned() });
    vec![line(1, "[    0.000000] Linux"), line(2, ""), line(3, "\u{1b}[32mhello login: ")]
}

#[tokio::test]
async fn a_guests_lines_are_printed_as_they_are() {
    let daemon = Daemon::start(Script { log: lines(), ..Script::default() });
    let ran = daemon.blixard("vm logs hello").await;
    assert_eq!(ran.out, "[    0.000000] Linux\n\n\u{1b}[32mhello login: \n");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    daemon.blixard("vm logs -n 5 -f shop/web").await;
    insta::assert_snapshot!(daemon.asked(), @"
    logs default/hello tail None follow false
    logs shop/web tail Some(5) follow true
    ");
}

#[tokio::test]
async fn as_json_each_line_is_a_value() {
    let daemon = Daemon::start(Script { log: lines(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm logs hello -o json").await, @r#"
    {"atMs":1,"text":"[    0.000000] Linux"}
    {"atMs":2,"text":""}
    {"atMs":3,"text":"\u001b[32mhello login: "}
    --- exit 0
    "#);
}

#[tokio::test]
async fn a_console_follows_from_a_screen_ago_and_says_that_it_is_read_only() {
    let daemon = Daemon::start(Script { log: lines(), ..Script::default() });
    let ran = daemon.blixard("vm console hello").await;
    assert!(ran.out.ends_with("hello login: \n"), "{ran}");
    assert_eq!(ran.err, "console of default/hello, read-only; Ctrl-C ends\n");
    assert_eq!(daemon.asked(), "logs default/hello tail Some(24) follow true");
}

#[tokio::test]
async fn lines_before_a_failure_are_printed() {
    let mut log = lines();
    log.push(Err(Status::unavailable("the host has gone away")));
    let daemon = Daemon::start(Script { log, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm logs hello -n 1").await, @"
    [    0.000000] Linux

    [32mhello login: 
    --- stderr
    error: the host has gone away
    hint: `journalctl -u blixardd` may tell more
    --- exit 3
    ");
}

/// A reader that takes some bytes and goes away, like `head`.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0 = self.0.saturating_sub(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_has_read_enough_ends_it_quietly() {
    let daemon = Daemon::start(Script { log: lines(), endless: true, ..Script::default() });
    for format in ["table", "json"] {
        let (mut out, mut err) = (Head(40), Vec::new());
        let interrupt = Box::pin(std::future::pending());
        let world = World { out: &mut out, err: &mut err, terminal: None, nix: Nix::in_path(), interrupt };
        let socket = daemon.socket();
        let words =
            ["blixard", "--socket", socket.to_str().unwrap(), "-o", format, "vm", "logs", "-f", "hello"];
        let code = run(words.map(Into::into), world).await;
        assert_eq!((code, String::from_utf8(err).unwrap().as_str()), (0, ""), "{format}");
    }
}
