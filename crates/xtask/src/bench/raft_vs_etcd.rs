//! `raft-vs-etcd`: the consensus beside etcd.
//!
//! Three processes of each on loopback, both with their logs on the same disk and fsync on. The load is one
//! program that speaks etcd's API to both: callers that each write 300 bytes, wait, and write
//! again, to the leader. The sides take turns, and who goes first changes with each round. Ours is a node
//! of the production crates (`blixard-raft`, `blixard-peer`) with a table in memory behind it; TLS is
//! off on both sides.

mod etcd;
mod group;
mod ours;

use std::path::Path;

use anyhow::Context as _;
use blixard_testkit::Workspace;
use serde::Deserialize;

use super::outcome::{ANYTHING, Better, Limit, Rounds, median};
use super::{Bench, Outcome};
use crate::step;
use group::{Group, Tool};

pub(super) const BENCH: Bench = Bench {
    name: "raft-vs-etcd",
    measures: "writes beside etcd 3.5: throughput, latency, CPU, memory; failover; a snapshot under load",
    run,
};

const CALLERS: [u32; 5] = [1, 16, 64, 256, 1000];
const FAILOVER_MUST_MS: f64 = 400.0;
/// A state of 50 MB, in keys of 300 bytes.
const KEYS_OF_50_MB: u32 = 165_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: u32,
    warm_ms: u32,
    measure_ms: u32,
    failovers: u32,
}

impl Plan {
    /// What the figures of docs/SPECIFICATION.md come from.
    const FULL: Self = Self { rounds: 5, warm_ms: 1_000, measure_ms: 3_000, failovers: 7 };
    /// Enough to see that it runs, with figures that say little.
    const SHORT: Self = Self { rounds: 1, warm_ms: 300, measure_ms: 1_000, failovers: 1 };

    fn chosen() -> Self {
        if std::env::var_os("BLIXARD_BENCH_SHORT").is_some() { Self::SHORT } else { Self::FULL }
    }
}

/// The ratio of throughputs that is required and aimed at.
fn aims(callers: u32) -> (f64, f64) {
    if callers == 1 { (0.85, 1.25) } else { (1.5, 2.2) }
}

/// What the load saw.
#[derive(Debug, Clone, Deserialize)]
struct Load {
    writes: f64,
    all_writes: f64,
    errors: u64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

/// One side in one round.
#[derive(Debug, Clone)]
struct Seen {
    load: Load,
    cpu_us_per_write: f64,
    writes_per_sync: f64,
}

impl Seen {
    fn throughput(&self) -> f64 {
        self.load.writes / self.load.seconds
    }
}

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::cargo(workspace, &["build", "--release", "-p", "blixard-bench"], &[])?;
    let tool = Tool::built(workspace);
    let etcd = etcd::program(workspace)?;
    let folder = workspace.target().join("bench/raft-vs-etcd");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("cannot remove the last run")?;
    }
    let outcome = measure(&tool, &etcd, &folder)?;
    std::fs::remove_dir_all(&folder).context("cannot remove the data of the run")?;
    Ok(outcome)
}

fn measure(tool: &Tool, etcd: &Path, folder: &Path) -> anyhow::Result<Outcome> {
    let mut ours = ours::start(tool, &folder.join("ours"))?;
    let mut peer = etcd::start(tool, etcd, &folder.join("etcd"))?;
    let plan = Plan::chosen();
    let mut outcome = Outcome::new(BENCH.name, plan.rounds);
    for callers in CALLERS {
        let mut rounds = Vec::new();
        for round in 0..plan.rounds {
            let pair = one_round(&mut ours, &mut peer, plan, (callers, round))?;
            rounds.push(pair);
        }
        add_load(&mut outcome, callers, &rounds);
    }
    let memory = vec![(ours.resident_megabytes()?, peer.resident_megabytes()?)];
    report(&mut outcome, "RSS of three nodes", "MB", memory, Better::Lower);
    failovers(&mut outcome, &mut ours, &mut peer, plan)?;
    snapshot(&mut outcome, &mut ours, plan)?;
    Ok(outcome)
}

fn one_round(
    ours: &mut Group,
    peer: &mut Group,
    plan: Plan,
    (callers, round): (u32, u32),
) -> anyhow::Result<(Seen, Seen)> {
    let pair = if round.is_multiple_of(2) {
        let first = one_side(ours, plan, callers)?;
        (first, one_side(peer, plan, callers)?)
    } else {
        let first = one_side(peer, plan, callers)?;
        (one_side(ours, plan, callers)?, first)
    };
    let (a, b) = (&pair.0, &pair.1);
    step::say(&format!(
        "{callers} callers, round {round}: {:.0} and {:.0} writes/s ({:.2}), p99 {:.1} and {:.1} ms",
        a.throughput(),
        b.throughput(),
        a.throughput() / b.throughput(),
        a.load.p99_us / 1e3,
        b.load.p99_us / 1e3,
    ));
    Ok(pair)
}

fn one_side(group: &mut Group, plan: Plan, callers: u32) -> anyhow::Result<Seen> {
    let leader = group.leader()?;
    let (cpu, syncs) = (group.cpu_seconds()?, group.syncs(leader)?);
    let load = group.load(leader, callers, plan.warm_ms, plan.measure_ms)?;
    anyhow::ensure!(
        load.errors == 0,
        "{} writes of {} callers to {} failed",
        load.errors,
        callers,
        group.name()
    );
    let (cpu, syncs) = (group.cpu_seconds()? - cpu, group.syncs(leader)? - syncs);
    let cpu_us_per_write = cpu * 1e6 / load.all_writes;
    let writes_per_sync = load.all_writes / syncs;
    Ok(Seen { load, cpu_us_per_write, writes_per_sync })
}

fn add_load(outcome: &mut Outcome, callers: u32, rounds: &[(Seen, Seen)]) {
    let pairs = |of: fn(&Seen) -> f64| rounds.iter().map(|(a, b)| (of(a), of(b))).collect::<Vec<_>>();
    let (must, goal) = aims(callers);
    let metric = format!("writes, {callers} callers");
    let throughput = Rounds { metric: &metric, unit: "1/s", pairs: pairs(Seen::throughput), must, goal };
    outcome.add_figures(&throughput, Better::Higher);
    let mut beside = |what: &str, unit, pairs, better| {
        report(outcome, &format!("{what}, {callers} callers"), unit, pairs, better);
    };
    beside("p50", "ms", pairs(|seen| seen.load.p50_us / 1e3), Better::Lower);
    beside("p99", "ms", pairs(|seen| seen.load.p99_us / 1e3), Better::Lower);
    beside("CPU per write", "us", pairs(|seen| seen.cpu_us_per_write), Better::Lower);
    beside("writes per fdatasync", "", pairs(|seen| seen.writes_per_sync), Better::Higher);
}

/// A figure that is told and not judged.
fn report(outcome: &mut Outcome, metric: &str, unit: &str, pairs: Vec<(f64, f64)>, better: Better) {
    let (must, goal) = match better {
        Better::Lower => (ANYTHING, 1.0),
        Better::Higher => (0.0, 1.0),
    };
    outcome.add_figures(&Rounds { metric, unit, pairs, must, goal }, better);
}

fn failovers(outcome: &mut Outcome, ours: &mut Group, peer: &mut Group, plan: Plan) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    for round in 0..plan.failovers {
        let pair = (ours.failover()?, peer.failover()?);
        step::say(&format!("leader killed, round {round}: {:.0} and {:.0} ms", pair.0, pair.1));
        pairs.push(pair);
    }
    let metric = "leader killed to first write";
    let median = median(pairs.iter().map(|pair| pair.0).collect()).unwrap_or(f64::NAN);
    let limit = Limit { metric: "median of the same", unit: "ms", ours: median, must: FAILOVER_MUST_MS };
    report(outcome, metric, "ms", pairs, Better::Lower);
    outcome.add_limit(&limit, Better::Lower);
    Ok(())
}

/// A state of 50 MB goes to a new node while 16 callers write.
fn snapshot(outcome: &mut Outcome, ours: &mut Group, plan: Plan) -> anyhow::Result<()> {
    let leader = ours.leader()?;
    ours.fill(leader, KEYS_OF_50_MB)?;
    let quiet = ours.load(leader, 16, plan.warm_ms, plan.measure_ms)?;
    let (seconds, busy) = ours::add_fourth(ours, leader)?;
    let told = |metric, unit, ours| Limit { metric, unit, ours, must: ANYTHING };
    outcome.add_limit(&told("50 MB to a new node, under load", "s", seconds), Better::Lower);
    outcome.add_limit(&told("p99 of writes meanwhile, 16 callers", "ms", busy.p99_us / 1e3), Better::Lower);
    outcome.add_limit(&told("p99 of writes before, 16 callers", "ms", quiet.p99_us / 1e3), Better::Lower);
    let share = (busy.writes / busy.seconds) / (quiet.writes / quiet.seconds);
    let share = Limit { metric: "writes meanwhile ÷ before", unit: "", ours: share, must: 0.0 };
    outcome.add_limit(&share, Better::Higher);
    Ok(())
}
