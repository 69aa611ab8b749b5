//! What every [`Confinement`] must do, as one sequence that the fake and the real one both pass.
//!
//! Owns: the promises of the port. Refuses to know: whose they are. Needs `/bin/sh`, `/bin/cat`,
//! `/usr/bin/head`, `/usr/bin/tail` and `/bin/sleep`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use blixard_core::ports::confined::{
    ConfinedError, ConfinedOutput, ConfinedProgram, Confinement, LimitReached, Limits, Network, ProgramEnd,
};

/// A program of a shell, within limits that suffice for every good one here.
#[must_use]
pub fn shell(script: &str) -> ConfinedProgram {
    ConfinedProgram {
        purpose: "contract",
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("GIVEN".to_owned(), "a $b".to_owned()),
        ]),
        groups: Vec::new(),
        network: Network::None,
        limits: Limits {
            time_ms: 120_000,
            memory_max: 256 << 20,
            tasks_max: 32,
            stdout_max: 1 << 20,
            stderr_max: 1 << 20,
        },
    }
}

/// Runs a program; gives its end with both of its streams.
pub async fn run(
    confinement: &dyn Confinement,
    program: ConfinedProgram,
) -> (Result<ConfinedOutput, ConfinedError>, String) {
    let mut stderr = Vec::new();
    let result = confinement.run(program, &mut |bytes: &[u8]| stderr.extend_from_slice(bytes)).await;
    (result, String::from_utf8_lossy(&stderr).into_owned())
}

/// Checks all promises, one after another.
pub async fn confinement_contract(confinement: &dyn Confinement) -> Result<()> {
    an_end_comes_with_both_streams(confinement).await.context("an end comes with both streams")?;
    arguments_and_variables_are_taken_as_they_are(confinement)
        .await
        .context("arguments and variables are taken as they are")?;
    each_limit_ends_a_program(confinement).await.context("each limit ends a program")?;
    who_eats_memory_does_not_succeed(confinement).await.context("who eats memory does not succeed")?;
    what_is_no_program_is_named(confinement).await.context("what is no program is named")?;
    a_dropped_run_leaves_no_process(confinement).await.context("a dropped run leaves no process")
}

async fn an_end_comes_with_both_streams(confinement: &dyn Confinement) -> Result<()> {
    // Nothing waits for input.
    let (result, stderr) = run(confinement, shell("cat; echo out; echo err >&2; exit 3")).await;
    let expected = ConfinedOutput { end: ProgramEnd::Exited(3), stdout: b"out\n".to_vec() };
    ensure!(matches!(&result, Ok(output) if *output == expected), "{result:?}");
    ensure!(stderr == "err\n", "stderr: {stderr:?}");
    let (result, _) = run(confinement, shell("kill -USR1 $$")).await;
    ensure!(matches!(&result, Ok(output) if output.end == ProgramEnd::Killed(10)), "{result:?}");
    // More than pipes hold.
    let (result, stderr) =
        run(confinement, shell("head -c 500000 /dev/zero; head -c 500000 /dev/zero >&2")).await;
    ensure!(matches!(&result, Ok(output) if output.stdout.len() == 500_000), "{result:?}");
    ensure!(stderr.len() == 500_000, "{} bytes of stderr", stderr.len());
    Ok(())
}

async fn arguments_and_variables_are_taken_as_they_are(confinement: &dyn Confinement) -> Result<()> {
    let mut program = shell(r#"printf '%s|' "$GIVEN" "$@""#);
    program.argv.extend(["sh", "$GIVEN ${GIVEN} %n", "", "*", "\\x41"].map(str::to_owned));
    let (result, _) = run(confinement, program).await;
    let stdout = result.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    ensure!(matches!(&stdout, Ok(text) if text == "a $b|$GIVEN ${GIVEN} %n||*|\\x41|"), "{stdout:?}");
    Ok(())
}

async fn each_limit_ends_a_program(confinement: &dyn Confinement) -> Result<()> {
    for script in ["while :; do echo too much; done", "while :; do echo too much >&2; done"] {
        let (result, _) = run(confinement, shell(script)).await;
        let is_limit =
            matches!(result, Err(ConfinedError::Limit(LimitReached::Output(limit))) if limit == 1 << 20);
        ensure!(is_limit, "{script}: {result:?}");
    }
    let mut program = shell("echo begun >&2; sleep 1000");
    program.limits.time_ms = 1_500;
    let (result, stderr) = run(confinement, program).await;
    ensure!(matches!(result, Err(ConfinedError::Limit(LimitReached::Time(1_500)))), "{result:?}");
    ensure!(stderr == "begun\n", "stderr: {stderr:?}");
    Ok(())
}

async fn who_eats_memory_does_not_succeed(confinement: &dyn Confinement) -> Result<()> {
    // `tail` holds a line that does not end.
    let (result, stderr) =
        run(confinement, shell("head -c 2000000000 /dev/zero | tail -n 1 > /dev/null")).await;
    let succeeded = matches!(&result, Ok(output) if output.end == ProgramEnd::Exited(0));
    ensure!(!succeeded, "{result:?} {stderr}");
    Ok(())
}

async fn what_is_no_program_is_named(confinement: &dyn Confinement) -> Result<()> {
    let mut program = shell("");
    program.argv = vec!["/nowhere/program".to_owned()];
    let (result, _) = run(confinement, program).await;
    let named =
        matches!(&result, Err(ConfinedError::Start { reason }) if reason.contains("/nowhere/program"));
    ensure!(named, "{result:?}");
    Ok(())
}

async fn a_dropped_run_leaves_no_process(confinement: &dyn Confinement) -> Result<()> {
    let told = Arc::new((Mutex::new(String::new()), tokio::sync::Notify::new()));
    let teller = Arc::clone(&told);
    let mut tell = move |bytes: &[u8]| {
        let (text, heard) = &*teller;
        *text.lock().unwrap_or_else(PoisonError::into_inner) += &String::from_utf8_lossy(bytes);
        heard.notify_one();
    };
    let running = confinement.run(shell("echo $$ >&2; exec sleep 1000"), &mut tell);
    tokio::select! {
        ended = running => anyhow::bail!("{ended:?}"),
        () = told.1.notified() => {}
    }
    let pid = told.0.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned();
    let status = format!("/proc/{pid}/status");
    // It is killed at once; between that and its end it is of nobody's interest.
    while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
        tokio::task::yield_now().await;
    }
    Ok(())
}
