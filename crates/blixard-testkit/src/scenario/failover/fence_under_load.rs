//! The fence of a host under all that has been seen to delay one: whatever keeps the daemon, its holder or PID 1
//! from their work, what runs there is gone within L + G of the last heartbeat that was granted.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Trio, await_healthy, cluster_of_three, lease_of};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fence_under_load",
    shows: "unit starts, reloads, a PID 1, a holder or a daemon that stands still: vms, helpers and taps end with L",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 2] = ["fenced-1", "fenced-2"];
const TAPS: [&str; 2] = ["vm-fenced-1", "vm-fenced-2"];

/// The default profile's L, G and W.
const L: Duration = Duration::from_secs(6);
const G: Duration = Duration::from_secs(1);
const W: Duration = Duration::from_millis(7500);

const LIMIT: Duration = Duration::from_mins(1);

/// The host that has them.
const VICTIM: &str = "n3";

/// A hypervisor that holds a tap, with a helper that has left its session, on the one host that is labelled.
const FLAKE: &str = r#"{
  outputs = { self }: let
    vm = number: let
      name = "fenced-${number}";
      blixard = {
        schema = 1;
        kvm = "unused";
        health.activeForMs = 0;
        resources = { vcpus = 1; memoryMib = 128; };
        interfaces = [ { kind = "tap"; id = "vm-${name}"; mac = "02:00:00:00:00:0${number}"; } ];
        placement.constraints = [ { label = "fenced"; operator = "in"; values = [ "yes" ]; } ];
      };
    in derivation {
      name = "microvm-${name}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      tap = "tap,id=net,ifname=vm-${name},script=no,downscript=no";
      args = [ "-euc" ''
        export PATH=/usr/bin:/bin
        mkdir -p $out/bin
        {
          echo '#!/bin/sh'
          echo '/usr/bin/setsid /usr/bin/sleep infinity &'
          echo "exec /usr/bin/qemu-system-x86_64 -M none -nographic -monitor none -serial none -netdev $tap"
        } > $out/bin/microvm-run
        chmod 755 $out/bin/microvm-run
      '' ];
    } // { inherit blixard; };
  in { microvms.fenced-1 = vm "1"; microvms.fenced-2 = vm "2"; };
}
"#;

/// What 200 of are started at once, again and again.
const LOAD_UNIT: &str = "[Service]\nType=exec\nExecStart=/usr/bin/sleep infinity\n";
const STARTS: &str = "systemctl start load@{1..200}.service; systemctl stop 'load@*.service'";
const RELOADS: &str = "systemctl daemon-reload";

/// Who stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The daemon: nobody renews the lease.
    Daemon,
    /// The holder, whose daemon goes on: nobody kills at the deadline.
    Holder,
    /// The holder is killed; its lease has not run out.
    HolderKilled,
}

struct Fault {
    name: &'static str,
    victim: Victim,
    /// A shell command that is run again and again meanwhile.
    load: Option<&'static str>,
    pid1_stands_still: bool,
    watchdogs: &'static str,
}

impl Fault {
    const fn of(name: &'static str, victim: Victim) -> Self {
        Self { name, victim, load: None, pid1_stands_still: false, watchdogs: "yes" }
    }
}

const FAULTS: [Fault; 8] = [
    Fault::of("the daemon stands still", Victim::Daemon),
    Fault { load: Some(STARTS), ..Fault::of("the daemon, while 200 units are started", Victim::Daemon) },
    Fault { load: Some(RELOADS), ..Fault::of("the daemon, while systemd is reloaded", Victim::Daemon) },
    Fault {
        pid1_stands_still: true,
        ..Fault::of("the daemon, while PID 1 stands still for 3 s", Victim::Daemon)
    },
    Fault { watchdogs: "no", ..Fault::of("the daemon, without service watchdogs", Victim::Daemon) },
    Fault::of("the holder stands still", Victim::Holder),
    Fault { watchdogs: "no", ..Fault::of("the holder, without service watchdogs", Victim::Holder) },
    Fault::of("the holder is killed by systemctl", Victim::HolderKilled),
];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let (trio, _) = measure(context)?;
    let host = trio.host(VICTIM)?;
    restart_for_less_than_a_lease(&trio, host)
}

/// Lets all faults happen on one host, and gives how long after its lease's end, or its holder's, all was gone.
pub(super) fn measure(context: &mut Context) -> anyhow::Result<(Trio, Vec<(&'static str, Duration)>)> {
    let hosts = cluster_of_three(context, |host, config| {
        let label = if host.name() == VICTIM { "labels = { fenced = \"yes\" }\n" } else { "" };
        config.replace("[node]\n", &format!("[node]\n{label}"))
    })?;
    let [asked, _, host] = hosts.as_slice() else { anyhow::bail!("not three hosts") };
    // The programs that derivations need are there.
    fixture::prepare(asked, Fixture::Empty)?;
    asked.write("/root/fenced/flake.nix", FLAKE, 0o644)?;
    host.write("/etc/systemd/system/load@.service", LOAD_UNIT, 0o644)?;
    host.run_ok(&["systemctl", "daemon-reload"])?;
    let trio = Trio::watching(hosts.clone(), &TAPS)?;
    asked.run_ok(&["blixard", "deploy", "/root/fenced"])?;
    let mut delays = Vec::new();
    for fault in &FAULTS {
        await_whole(&trio, asked)?;
        delays.push((fault.name, endure(&trio, host, fault).with_context(|| fault.name)?));
    }
    await_whole(&trio, asked)?;
    Ok((trio, delays))
}

/// Everything that is watched is there.
fn await_whole(trio: &Trio, asked: &Host) -> anyhow::Result<()> {
    for vm in VMS {
        await_healthy(asked, vm)?;
    }
    wait::until("vms and taps to be there", LIMIT, || {
        let whole = VMS.iter().chain(&TAPS).all(|name| trio.run_of(name).is_ok());
        Ok(if whole { Seen::Done(()) } else { Seen::Instead(format!("{:?}", trio.watch.spans())) })
    })
}

/// Lets the fault happen, and waits until all is gone; then all is as before.
fn endure(trio: &Trio, host: &Host, fault: &Fault) -> anyhow::Result<Duration> {
    host.run_ok(&["systemctl", "service-watchdogs", fault.watchdogs])?;
    let unit = if fault.victim == Victim::Daemon { "blixardd" } else { "blixard-lease" };
    let process = host.run_ok(&["systemctl", "show", "--property=MainPID", "--value", unit])?;
    let process = process.trim();
    let load = fault.load.map(|load| Load::begin(host, load)).transpose()?;
    let begun = trio.watch.now();
    // Past PID 1, which may be busy.
    match fault.victim {
        Victim::Daemon | Victim::Holder => host.run_ok(&["kill", "-STOP", process])?,
        Victim::HolderKilled => host.run_ok(&["systemctl", "kill", "--signal=KILL", unit])?,
    };
    let end = match fault.victim {
        Victim::HolderKilled => begun,
        Victim::Daemon | Victim::Holder => deadline(trio, host)?,
    };
    if fault.pid1_stands_still {
        let stop = end.saturating_sub(Duration::from_secs(1));
        await_instant(trio, stop)?;
        host.signal_init("STOP")?;
        await_instant(trio, stop + Duration::from_secs(3))?;
        host.signal_init("CONT")?;
    }
    let gone = gone(trio, host, begun)?;
    if let Some(load) = load {
        load.end()?;
    }
    if fault.victim == Victim::Daemon {
        host.run_ok(&["kill", "-CONT", process])?;
    }
    judge(fault, end, gone)?;
    Ok(gone.saturating_sub(end))
}

/// When the lease that is held ends; nobody renews it any more.
fn deadline(trio: &Trio, host: &Host) -> anyhow::Result<Duration> {
    // An order that was on its way has come by then.
    await_instant(trio, trio.watch.now() + Duration::from_millis(200))?;
    let status = std::fs::read_to_string(host.see(blixard_types::holder::HOLDER_STATUS)?)?;
    let until = status.trim().rsplit(' ').next().and_then(|ms| ms.parse().ok());
    let until = until.with_context(|| format!("the holder says {status:?}"))?;
    Ok(trio.watch.at_boot_time(Duration::from_millis(until)))
}

fn await_instant(trio: &Trio, at: Duration) -> anyhow::Result<()> {
    wait::until("an instant", LIMIT, || {
        let now = trio.watch.now();
        Ok(if now >= at { Seen::Done(()) } else { Seen::Instead(format!("{now:?}")) })
    })
}

/// Waits until all that ran at an instant has ended, and gives when the last of it did.
fn gone(trio: &Trio, host: &Host, begun: Duration) -> anyhow::Result<Duration> {
    wait::until("everything to be gone", LIMIT, || {
        let spans = trio.watch.spans();
        let ran = spans.iter().filter(|span| span.host == host.name() && span.from < begun);
        let ends: Option<Vec<Duration>> =
            ran.filter(|span| span.to.is_none_or(|to| to >= begun)).map(|span| span.to).collect();
        Ok(match ends {
            Some(ends) if ends.len() == VMS.len() + TAPS.len() => {
                Seen::Done(ends.into_iter().max().unwrap_or_default())
            }
            _ => Seen::Instead(format!("{spans:?}")),
        })
    })
}

fn judge(fault: &Fault, end: Duration, gone: Duration) -> anyhow::Result<()> {
    let ms = |from: Duration, to: Duration| (to.as_secs_f64() - from.as_secs_f64()) * 1000.0;
    let from = if fault.victim == Victim::HolderKilled { "the kill" } else { "L" };
    println!("     {}: {}: all gone {:.0} ms after {from}", SCENARIO.name, fault.name, ms(end, gone));
    ensure!(gone <= end + G, "the fence is later than G after {from}");
    let sent = end.saturating_sub(if fault.victim == Victim::HolderKilled { Duration::ZERO } else { L });
    ensure!(gone < sent + W, "a leader could have given the host up before");
    Ok(())
}

/// A command that is run again and again on a host.
struct Load {
    host: Host,
    thread: std::thread::JoinHandle<anyhow::Result<String>>,
}

const LOAD_OVER: &str = "/run/load-over";

impl Load {
    fn begin(host: &Host, command: &str) -> anyhow::Result<Self> {
        host.run_ok(&["rm", "-f", LOAD_OVER])?;
        let script = format!("while [ ! -e {LOAD_OVER} ]; do {command}; done");
        let there = host.clone();
        Ok(Self { host: host.clone(), thread: std::thread::spawn(move || there.shell(&script)) })
    }

    fn end(self) -> anyhow::Result<()> {
        self.host.run_ok(&["touch", LOAD_OVER])?;
        self.thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?.map(drop)
    }
}

fn restart_for_less_than_a_lease(trio: &Trio, host: &Host) -> anyhow::Result<()> {
    let (before, lease) = (trio.watch.spans(), lease_of(host)?);
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    super::super::cluster::await_voters(host, 3)?;
    ensure!(lease_of(host)? == lease, "the lease has lapsed");
    ensure!(
        trio.watch.spans() == before,
        "a restart of the daemon has touched a vm: {:?}",
        trio.watch.spans()
    );
    Ok(())
}
