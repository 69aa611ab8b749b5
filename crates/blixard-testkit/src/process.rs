//! Running programs of this machine and keeping what they said.
//!
//! Owns the text of a failed command's error; decides nothing about what is run.

#![allow(clippy::disallowed_methods, reason = "driving programs of the machine is what the test kit is for")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Context as _;

/// What a command gave.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that succeeded.
    ///
    /// # Errors
    /// When it failed, with everything it said.
    pub fn ok(self) -> anyhow::Result<String> {
        if self.status.success() { Ok(self.stdout) } else { Err(self.unexpected("failed")) }
    }

    /// The standard error of a command that exited with a code other than 0.
    ///
    /// # Errors
    /// When it succeeded, or was killed (a limit on its time kills it).
    pub fn refused(self) -> anyhow::Result<String> {
        match self.status.code() {
            Some(1..=123) => Ok(self.stderr),
            _ => Err(self.unexpected("should have failed by itself")),
        }
    }

    /// An error that shows the whole output.
    #[must_use]
    pub fn unexpected(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "`{}` {what} ({})\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Runs a command to its end; `input` is its standard input.
pub(crate) fn capture<A: AsRef<OsStr>>(argv: &[A], shown: &str, input: &[u8]) -> anyhow::Result<Output> {
    let mut child = command(argv)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut stdin = child.stdin.take().context("a piped child has a standard input")?;
    let output = std::thread::scope(|scope| {
        // A child that does not read all of its input is its own affair: its exit code tells.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output()
    })
    .with_context(|| format!("cannot wait for `{shown}`"))?;
    Ok(Output {
        command: shown.to_owned(),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program of this machine and returns its standard output.
pub(crate) fn run(argv: &[&str]) -> anyhow::Result<String> {
    capture(argv, &argv.join(" "), &[])?.ok()
}

/// Runs a command on the caller's own terminal.
pub(crate) fn attach<A: AsRef<OsStr>>(argv: &[A], shown: &str) -> anyhow::Result<ExitStatus> {
    command(argv)?.status().with_context(|| format!("cannot start `{shown}`"))
}

/// A command of this argument vector.
pub(crate) fn command<A: AsRef<OsStr>>(argv: &[A]) -> anyhow::Result<Command> {
    let (program, arguments) = argv.split_first().context("a command has at least a program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_shows_everything_it_said() {
        let argv = ["sh", "-c", "cat; echo why >&2; exit 3"];
        let error = capture(&argv, "the tool", b"what").unwrap().ok().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`the tool` failed (exit status: 3)\n--- stdout\nwhat\n--- stderr\nwhy"
        );
    }

    #[test]
    fn a_refusal_is_neither_a_success_nor_a_death() {
        let run = |script: &str| capture(&["sh", "-c", script], script, &[]).unwrap().refused();
        assert_eq!(run("echo no >&2; exit 1").unwrap(), "no\n");
        assert!(run("exit 0").is_err());
        assert!(run("kill -KILL $$").is_err());
    }
}
