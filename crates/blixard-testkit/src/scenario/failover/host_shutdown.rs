//! A machine is shut down in good order: its guests are, too.

use anyhow::{Context as _, ensure};

use super::{Trio, await_back, await_healthy, figure};
use crate::fixture::Fixture;
use crate::scenario::guest::Guest;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host_shutdown",
    shows: "a machine is shut down: its guest is asked first, while the lease is renewed, and runs elsewhere, once",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 2] = ["hello", "world"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Guests, &VMS)?;
    let before = trio.vm_on(false, &VMS)?;
    let host = trio.host(&before.host)?;
    let name = VMS.into_iter().find(|vm| *vm == before.vm).context("an unknown vm")?;
    let guest = Guest { host, name };
    // What it is told before it listens is lost on it.
    guest.await_boot_after(0)?;
    // The unit that asks it has less time of its own than the guest takes, and asks for as much as the guest has.
    let short = "[Service]\nTimeoutStopSec=500ms\n";
    host.write("/etc/systemd/system/blixard-drain.service.d/short.conf", short, 0o644)?;
    host.run_ok(&["systemctl", "daemon-reload"])?;
    let begun = trio.watch.now();
    host.shutdown()?;
    let here = |span: &super::Span| span.vm == before.vm && span.host == before.host;
    let ended = trio.watch.spans().into_iter().find(here).and_then(|span| span.to);
    figure(SCENARIO.name, "its guest has ended", begun, ended.context("the guest runs on")?);
    figure(SCENARIO.name, "the machine is off", begun, trio.watch.now());
    let after = trio.await_elsewhere(&before.vm, &before.host)?;
    figure(SCENARIO.name, "its guest runs elsewhere", begun, after.from);
    await_healthy(trio.host(&after.host)?, &before.vm)?;

    // The end of a guest with its machine is no failure of it.
    let events = trio.other_than(host)?.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    ensure!(!events.contains(r#""event":"failed""#) && events.contains("host-lost"), "{events}");

    host.boot()?;
    super::super::cluster::await_voters(host, 3)?;
    await_back(trio.other_than(host)?)?;
    let console = host.journal(&guest.unit())?;
    let down = format!("blixard-guest {name} down");
    ensure!(console.matches(&down).count() == 1, "the guest was not asked once: {console}");
    let said = host.journal("blixard-drain")?;
    ensure!(said.contains("the guest has shut down"), "{said}");
    // In the order in which it all went away.
    let order = host.run_ok(&[
        "journalctl",
        "--no-pager",
        "--boot=-1",
        "--output=cat",
        "--unit=blixard-drain",
        "--unit=blixard-lease",
        "--unit=blixardd",
    ])?;
    let at = |words: &str| order.rfind(words).with_context(|| format!("no {words:?} in {order}"));
    let asked = at("the guest has shut down")?;
    ensure!(asked < at("Stopped blixard-lease.service")?, "the lease ended first: {order}");
    ensure!(asked < at("Stopped blixardd.service")?, "the daemon ended first: {order}");
    let runs = trio.watch.spans().into_iter().filter(here).count();
    ensure!(runs == 1, "it has started again where it was: {:?}", trio.watch.spans());
    trio.check_never_twice()
}
