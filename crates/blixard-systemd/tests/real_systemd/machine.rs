//! The machine that the tests may disturb: one test at a time.
//!
//! Owns: whether there is such a machine, the lock on it, commands. Refuses to know: what is tested.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use blixard_core::ports::units::TransientUnit;
use blixard_systemd::Systemd;
use blixard_testkit::fake::units::contract::Ground;
use blixard_types::VmId;

/// The machine, held by one test.
pub(crate) struct Machine {
    pub(crate) systemd: Systemd,
    pub(crate) ground: Ground,
    _lock: File,
}

impl Machine {
    /// `None`, with a word on standard error, where there is no machine for such tests.
    pub(crate) async fn get(test: &str) -> Result<Option<Self>> {
        if std::env::var("BLIXARD_REAL_SYSTEMD").as_deref() != Ok("1") {
            say(&format!("SKIPPED {test}: BLIXARD_REAL_SYSTEMD=1 is not set"));
            return Ok(None);
        }
        let first = std::fs::read_to_string("/proc/1/comm")?;
        ensure!(first.trim() == "systemd", "process 1 is {first}");
        let lock = File::create("/run/blixard-real-systemd.lock")?;
        lock.lock()?;
        Ok(Some(Self {
            systemd: Systemd::connect().await?,
            ground: Ground {
                state_dir: "/var/lib/blixard-real-systemd".to_owned(),
                runtime_dir: "/run/blixard-real-systemd".to_owned(),
                runs: argv(&["/bin/sleep", "1000"]),
                fails: argv(&["/bin/false"]),
                completes: argv(&["/bin/true"]),
                missing: argv(&["/nowhere/program"]),
            },
            _lock: lock,
        }))
    }

    /// A unit that runs until it is killed.
    pub(crate) fn unit(&self, vm: &VmId) -> TransientUnit {
        self.ground.unit(vm, &self.ground.runs)
    }

    /// A unit that runs a shell script.
    pub(crate) fn script(&self, vm: &VmId, script: &str) -> TransientUnit {
        self.ground.unit(vm, &argv(&["/bin/sh", "-c", script]))
    }
}

/// Says something to whoever runs the tests.
#[expect(clippy::print_stderr, reason = "tests speak to the one who runs them")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The vm of a test.
pub(crate) fn vm(name: &str) -> Result<VmId> {
    Ok(format!("real/{name}").parse()?)
}

/// Runs a command and waits for its end.
pub(crate) async fn run(words: &[&str]) -> Result<String> {
    let words = argv(words);
    tokio::task::spawn_blocking(move || blocking(&words)).await?
}

fn blocking(words: &[String]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no program")?;
    #[expect(clippy::disallowed_methods, reason = "tests act on the machine as an operator does")]
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
