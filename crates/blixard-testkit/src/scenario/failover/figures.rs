//! The times of failover, for benchmarks: what scenarios show once, measured again and again.

use std::time::Duration;

use anyhow::Context as _;

use super::super::cluster::await_voters;
use super::{LIMIT, Trio, fence_under_load};
use crate::fixture::Fixture;
use crate::host::Host;
use crate::scenario::Context;
use crate::wait::{self, Seen};

const VM: &str = "sleeper-1";

/// How long it took each time from the death of a vm's host, leader or not, until its unit was active elsewhere.
///
/// # Errors
/// When it does not happen, or the vm runs twice.
pub fn host_deaths(context: &mut Context, profile: &str, rounds: u32) -> anyhow::Result<Vec<Duration>> {
    let trio = Trio::with(context, profile, Fixture::Sleepers(1), &[VM])?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let run = trio.run_of(VM)?;
        let (host, asked) = (trio.host(&run.host)?, trio.other_than(trio.host(&run.host)?)?);
        let before = times_back(asked)?;
        let killed = trio.watch.now();
        host.kill()?;
        let moved = trio.await_elsewhere(VM, &run.host)?;
        times.push(moved.from.saturating_sub(killed));
        host.boot()?;
        await_voters(asked, 3)?;
        wait::until("the host to be back", LIMIT, || {
            let back = times_back(asked)?;
            Ok(if back > before { Seen::Done(()) } else { Seen::Instead(format!("{back} times")) })
        })?;
    }
    trio.check_never_twice()?;
    Ok(times)
}

fn times_back(asked: &Host) -> anyhow::Result<usize> {
    let events = asked.run(&["blixard", "events", "-o", "json", "--since", "0"])?.stdout;
    Ok(events.matches("node-back").count())
}

/// What stood still, or was killed, and how long after the lease's end, or the holder's, all of a host was gone.
///
/// # Errors
/// When something is not gone within the grace.
pub fn fence_delays(context: &mut Context) -> anyhow::Result<Vec<(&'static str, Duration)>> {
    fence_under_load::measure(context).map(|(_, delays)| delays).context("the fence is late")
}
