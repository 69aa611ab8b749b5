//! A lock of logind, as logind tells of it.

use anyhow::{Result, ensure};
use blixard_core::ports::wakefulness::Wakefulness as _;
use blixard_systemd::Logind;

use crate::machine::{Machine, run};

const LIST: [&str; 4] = ["busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1"];

async fn locks() -> Result<String> {
    run(&[LIST.as_slice(), &["org.freedesktop.login1.Manager", "ListInhibitors"]].concat()).await
}

#[tokio::test]
async fn a_machine_is_kept_awake_until_that_is_let_go() -> Result<()> {
    let Some(machine) = Machine::get("what keeps a machine awake").await? else {
        return Ok(());
    };
    // Other tests kill the bus, which a logind that runs does not get over.
    run(&["systemctl", "restart", "systemd-logind"]).await?;
    let awake = Logind::new(&machine.systemd).keep().await?;
    let held = locks().await?;
    ensure!(held.contains(r#""sleep" "Blixard""#) && held.contains(r#""block""#), "{held}");
    drop(awake);
    // logind sees that the file is closed a moment later; it is asked until it has.
    for _ in 0..100 {
        if !locks().await?.contains("Blixard") {
            return Ok(());
        }
    }
    anyhow::bail!("it is held still: {}", locks().await?)
}
