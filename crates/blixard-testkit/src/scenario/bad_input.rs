//! Everything that people get wrong: each is refused with one error, a hint and a code of its own, and
//! changes nothing.
//!
//! The cases are tables: `flakes` for what a flake may say, `words` for what is typed and what surrounds
//! it. All of them run before the scenario fails, so that one run tells all that is wrong.

mod flakes;
mod kinds;
mod standing;
mod surroundings;
mod words;

use anyhow::ensure;

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::process::Output;

pub(super) use standing::Standing;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "bad_input",
    shows: "bad flakes, specs, names, configurations and callers are refused clearly and change nothing",
    needs: Needs::Blixard,
    run,
};

/// How a mistake is answered.
pub(super) struct Expected<'a> {
    /// The exit code.
    pub(in crate::scenario) code: i32,
    /// What standard error says, whole.
    pub(in crate::scenario) says: &'a [&'a str],
    /// What a hint says; empty where none is owed.
    pub(in crate::scenario) hint: &'a str,
}

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let sleeper = fixture::prepare(host, Fixture::Sleepers(1))?;
    host.run_ok(&["blixard", "deploy", &sleeper])?;
    let mut before = Standing::of(host)?;

    let mut wrong = Vec::new();
    let mut case = |name: &str, checked: anyhow::Result<()>| {
        if let Err(error) = checked {
            wrong.push(format!("{name}: {error:#}"));
        }
        if let Err(error) = before.is_kept(host) {
            wrong.push(format!("{name} changes something: {error:#}"));
            // The next one is not to blame.
            match Standing::of(host) {
                Ok(now) => before = now,
                Err(error) => wrong.push(format!("after {name}: {error:#}")),
            }
        }
    };
    flakes::each(host, &mut case);
    words::each(host, &mut case);
    kinds::each(host, &mut case);
    surroundings::each(host, &mut case);
    ensure!(wrong.is_empty(), "{} cases are not as they should be:\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}

/// Checks that a command has failed as it should: by itself, with one error.
pub(super) fn check(output: &Output, expected: &Expected<'_>) -> anyhow::Result<()> {
    let wrong = |what: String| output.unexpected(&what);
    let code = output.status.code();
    ensure!(code == Some(expected.code), wrong(format!("should have exited with {}", expected.code)));
    let stderr = &output.stderr;
    let errors = stderr.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, wrong(format!("{errors} lines begin with \"error\", not one")));
    for words in expected.says {
        ensure!(stderr.contains(words), wrong(format!("does not say {words:?}")));
    }
    let mut hints = stderr.lines().filter_map(|line| line.strip_prefix("hint: "));
    let hinted = expected.hint.is_empty() || hints.any(|hint| hint.contains(expected.hint));
    ensure!(hinted, wrong(format!("no hint says {:?}", expected.hint)));
    ensure!(!stderr.contains("panicked"), wrong("panicked".to_owned()));
    Ok(())
}

/// Runs `blixard` and checks that it is refused.
pub(super) fn refused(host: &Host, words: &[&str], expected: &Expected<'_>) -> anyhow::Result<()> {
    check(&host.run(&[&["blixard"], words].concat())?, expected)
}
