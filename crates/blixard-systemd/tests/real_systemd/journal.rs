//! Consoles in a real journal.

use anyhow::{Context, Result, ensure};
use blixard_core::ports::journal::{Journal, LogLines, LogQuery};
use blixard_core::ports::units::UnitManager;
use blixard_systemd::Journalctl;
use blixard_testkit::fake::units::contract::PATIENCE;
use blixard_types::unit::RunUnitName;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::machine::{Machine, vm};

#[tokio::test]
async fn a_console_is_followed_and_holds_only_what_the_unit_printed() -> Result<()> {
    let Some(machine) = Machine::get("a console").await? else {
        return Ok(());
    };
    let vm = vm("con-sole")?;
    let name = RunUnitName::of(&vm);
    let journal = Journalctl::new("journalctl");
    let (tail, follow) = (None, true);
    let mut followed = journal.lines(name.clone(), LogQuery { tail, follow }).await?;
    // Each round has its own words: the journal of an earlier run may be there still.
    let round = std::process::id();
    let script =
        format!(r"printf 'one {round}\r\n\377 two\n'; echo three >&2; echo last {round}; exec sleep 1000");
    machine.systemd.start(machine.script(&vm, &script)).await?;
    let last = format!("last {round}");
    let texts = until_line(&mut followed, &last).await?;
    machine.systemd.stop(name.clone()).await?;
    let expected = [&format!("one {round}"), "\u{fffd} two", "three", &last];
    ensure!(texts.ends_with(&expected.map(str::to_owned)), "{texts:?}");
    let (tail, follow) = (Some(2), false);
    let lines = journal.lines(name, LogQuery { tail, follow }).await?;
    let texts: Vec<String> = lines.filter_map(|line| async { Some(line.ok()?.text) }).collect().await;
    ensure!(texts == ["three", &last], "{texts:?}");
    Ok(())
}

#[tokio::test]
async fn a_unit_that_has_printed_nothing_has_no_lines_and_no_error() -> Result<()> {
    let Some(_machine) = Machine::get("an empty console").await? else {
        return Ok(());
    };
    for tail in [None, Some(10)] {
        let name = RunUnitName::of(&vm("silent")?);
        let lines = Journalctl::new("journalctl");
        let lines = lines.lines(name, LogQuery { tail, follow: false }).await?;
        ensure!(lines.collect::<Vec<_>>().await.is_empty());
    }
    Ok(())
}

async fn until_line(lines: &mut LogLines, last: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let reading = async {
        while let Some(line) = lines.next().await {
            texts.push(line?.text);
            if texts.last().is_some_and(|text| text == last) {
                break;
            }
        }
        anyhow::Ok(())
    };
    let result = timeout(PATIENCE, reading).await;
    result.with_context(|| format!("only {texts:?}"))??;
    Ok(texts)
}
