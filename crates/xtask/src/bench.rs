//! `bench`: figures, always beside a peer that does the same work in the same run.
//!
//! Owns the registry and the form of the result; each benchmark is a file under `bench/` with an entry
//! in [`ALL`].

mod closure;
mod deploy_overhead;
mod failover;
mod idle_cost;
mod outcome;
mod raft_bytes;
mod raft_vs_etcd;
mod schedule;
mod start_storm;

use std::process::ExitCode;

use anyhow::Context as _;
use blixard_testkit::Workspace;

pub(crate) use outcome::Outcome;

/// A benchmark that can be run by its name.
pub(crate) struct Bench {
    name: &'static str,
    measures: &'static str,
    run: fn(&Workspace) -> anyhow::Result<Outcome>,
}

/// Every benchmark.
const ALL: &[Bench] = &[
    deploy_overhead::BENCH,
    raft_vs_etcd::BENCH,
    closure::COPY,
    closure::SMALL,
    closure::RTT,
    raft_bytes::BENCH,
    schedule::BENCH,
    start_storm::BENCH,
    failover::BENCH,
    failover::FENCE,
    idle_cost::BENCH,
];

/// Runs one; exits with a failure when it misses what it must reach.
pub(crate) fn bench(name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        return Ok(list());
    };
    let bench = find(ALL, name)?;
    let outcome = (bench.run)(&Workspace::here()?)?;
    if !json {
        print!("{}", outcome.table());
    }
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if outcome.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list() -> ExitCode {
    if ALL.is_empty() {
        println!("there are no benchmarks yet");
    }
    for bench in ALL {
        println!("{:<24} {}", bench.name, bench.measures);
    }
    ExitCode::SUCCESS
}

fn find<'a>(benches: &'a [Bench], name: &str) -> anyhow::Result<&'a Bench> {
    benches.iter().find(|bench| bench.name == name).with_context(|| {
        let known: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        format!("there is no benchmark {name:?}; there is: {known}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_benchmark_is_refused_with_those_that_there_are() {
        let bench = |name| Bench { name, measures: "", run: |_| Ok(Outcome::new("", 1)) };
        let benches = [bench("first"), bench("second")];
        assert_eq!(find(&benches, "second").unwrap().name, "second");
        assert_eq!(
            find(&benches, "third").err().unwrap().to_string(),
            "there is no benchmark \"third\"; there is: first, second"
        );
        assert!(find(&[], "third").err().unwrap().to_string().ends_with("none yet"));
    }
}
