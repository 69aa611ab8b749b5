//! What scenarios of hosts that fail share: three machines with every role, and a watch over what they execute.
//!
//! All test hosts have one kernel, so that what happens on them is seen on one clock.

#![allow(clippy::print_stdout, reason = "scenarios of failover print their figures, as the runner does")]

mod crash_loop;
mod credentials;
mod daemon_hung;
mod daemon_restart_short;
mod drain;
mod fence_under_load;
pub mod figures;
mod host_killed;
mod host_only_node;
mod host_partitioned;
mod host_reboot;
mod host_shutdown;
mod leader_and_host_die_together;
mod quorum_lost;
mod rebalance;
mod story;
mod task;
mod volume_sticks;
mod watch;

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::cluster::{Kind, await_voters, config, founder_config, token};
use super::{Context, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};
use watch::{Span, Watch};

pub(super) const SCENARIOS: [Scenario; 16] = [
    daemon_restart_short::SCENARIO,
    host_killed::SCENARIO,
    leader_and_host_die_together::SCENARIO,
    host_partitioned::SCENARIO,
    daemon_hung::SCENARIO,
    host_reboot::SCENARIO,
    drain::SCENARIO,
    fence_under_load::SCENARIO,
    host_shutdown::SCENARIO,
    volume_sticks::SCENARIO,
    crash_loop::SCENARIO,
    rebalance::SCENARIO,
    credentials::SCENARIO,
    host_only_node::SCENARIO,
    quorum_lost::SCENARIO,
    task::SCENARIO,
];

/// How long anything may take on a machine that does much else.
const LIMIT: Duration = Duration::from_mins(2);

/// Three machines of one cluster, each with every role.
struct Trio {
    hosts: Vec<Host>,
    watch: Watch,
}

impl Trio {
    /// Makes them, with this profile of leases, deploys a fixture, and waits until its vms are healthy.
    fn with(context: &mut Context, profile: &str, fixture: Fixture, vms: &[&str]) -> anyhow::Result<Self> {
        let fencing = format!("[fencing]\nprofile = \"{profile}\"\n");
        let hosts = cluster_of_three(context, |_, config| config + &fencing)?;
        let first = hosts.first().context("no hosts")?;
        for host in &hosts {
            build_everywhere(host, fixture, vms)?;
        }
        let flake = fixture::prepare(first, fixture)?;
        let trio = Self::watching(hosts.clone(), &[])?;
        first.run_ok(&["blixard", "deploy", &flake])?;
        for vm in vms {
            await_healthy(first, vm)?;
        }
        Ok(trio)
    }

    /// Watches what these hosts run from now on, and these taps.
    fn watching(hosts: Vec<Host>, taps: &[&str]) -> anyhow::Result<Self> {
        let watch = Watch::over(&hosts, taps)?;
        Ok(Self { hosts, watch })
    }

    fn host(&self, name: &str) -> anyhow::Result<&Host> {
        self.hosts.iter().find(|host| host.name() == name).with_context(|| format!("no host {name}"))
    }

    /// A host that is not this one.
    fn other_than(&self, host: &Host) -> anyhow::Result<&Host> {
        self.hosts.iter().find(|other| other.name() != host.name()).context("one host")
    }

    /// The run of a vm that goes on now.
    fn run_of(&self, vm: &str) -> anyhow::Result<Span> {
        let runs = self.watch.spans().into_iter().rev();
        let mut runs = runs.filter(|span| span.vm == vm && span.to.is_none());
        runs.next().with_context(|| format!("{vm} does not run"))
    }

    /// Waits until a vm runs on another host than this one.
    fn await_elsewhere(&self, vm: &str, than: &str) -> anyhow::Result<Span> {
        wait::until(&format!("{vm} to run elsewhere than on {than}"), LIMIT, || {
            let spans = self.watch.spans();
            let there = spans.iter().find(|span| span.vm == vm && span.host != than && span.to.is_none());
            Ok(match there {
                Some(span) => Seen::Done(span.clone()),
                None => Seen::Instead(format!("{spans:?}")),
            })
        })
    }

    /// A vm of these that runs on a host which leads, or on one that does not.
    fn vm_on(&self, leads: bool, vms: &[&str]) -> anyhow::Result<Span> {
        let asked = self.hosts.first().context("no hosts")?;
        let leader = super::cluster::leader(&self.hosts, asked)?.name().to_owned();
        let runs = vms.iter().map(|vm| self.run_of(vm)).collect::<anyhow::Result<Vec<_>>>()?;
        let shown = format!("{leader} leads, {runs:?}");
        runs.into_iter().find(|run| (run.host == leader) == leads).context(shown)
    }

    /// At no instant did two hosts execute one vm.
    fn check_never_twice(&self) -> anyhow::Result<()> {
        let spans = self.watch.spans();
        for (at, one) in spans.iter().enumerate() {
            let others = spans.iter().skip(at + 1);
            for other in others.filter(|other| other.vm == one.vm && other.host != one.host) {
                ensure!(!one.overlaps(other), "{} ran twice: {one:?} and {other:?}", one.vm);
            }
        }
        Ok(())
    }
}

/// Three machines of one cluster, each with every role, and with what is made of the usual configuration.
fn cluster_of_three(
    context: &mut Context,
    configured: impl Fn(&Host, String) -> String,
) -> anyhow::Result<Vec<Host>> {
    let binaries = context.binaries()?;
    let hosts = context.world(3)?.hosts().to_vec();
    let [first, others @ ..] = hosts.as_slice() else { anyhow::bail!("a world without hosts") };
    let founder = configured(first, founder_config(first, Kind::Whole));
    first.install_blixard_with(&binaries, &founder)?;
    first.run_ok(&["blixard", "cluster", "init"])?;
    for other in others {
        other.write("/etc/blixard/join", token(first, &[])?, 0o600)?;
        other.install_blixard_with(&binaries, &configured(other, config(other, Kind::Whole)))?;
    }
    await_voters(first, 3)?;
    Ok(hosts)
}

/// Which lease a host holds.
fn lease_of(host: &Host) -> anyhow::Result<String> {
    let status = host.run_ok(&["cat", blixard_types::holder::HOLDER_STATUS])?;
    Ok(status.split(' ').next().unwrap_or_default().to_owned())
}

fn await_healthy(asked: &Host, vm: &str) -> anyhow::Result<()> {
    wait::until(&format!("{vm} to be healthy"), LIMIT, || {
        let shown = asked.run_ok(&["blixard", "vm", "show", "-o", "json", vm])?;
        let healthy = shown.contains("\"status\": \"healthy\"");
        Ok(if healthy { Seen::Done(()) } else { Seen::Instead(shown) })
    })
}

/// Waits until the log says that a host that was lost is back.
fn await_back(asked: &Host) -> anyhow::Result<()> {
    wait::until("the lost host to be back", LIMIT, || {
        let events = asked.run(&["blixard", "events", "-o", "json", "--since", "0"])?.stdout;
        Ok(if events.contains("node-back") { Seen::Done(()) } else { Seen::Instead(events) })
    })
}

/// Has every host's own store hold what a fixture builds: the host that dies may be the only one that has
/// a closure, and the figures are those of failover, not of a transfer.
fn build_everywhere(host: &Host, fixture: Fixture, vms: &[&str]) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, fixture)?;
    for vm in vms {
        let (attribute, link) = (format!("path:{flake}#microvms.{vm}"), format!("/root/keep-{vm}"));
        host.run_ok(&["nix", "build", "--offline", "--out-link", &link, &attribute])?;
    }
    Ok(())
}

/// Prints how long something took, from one instant of the watch to another.
fn figure(scenario: &str, what: &str, from: Duration, to: Duration) {
    println!("     {scenario}: {what}: {:.2} s", to.saturating_sub(from).as_secs_f64());
}
