//! `failover` and `fence-delay`: how long a vm is away when its host dies, and how late a host's fence is.
//!
//! Test hosts on one clock, programs as they ship. The limits are those of docs/SPECIFICATION.md; the worst round
//! counts. There is no peer in the run: what others take is in their documents, and is minutes.

use std::time::Duration;

use blixard_testkit::Workspace;
use blixard_testkit::image::Image;
use blixard_testkit::scenario::Context;
use blixard_testkit::scenario::failover::figures;

use super::outcome::{Better, Limit};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "failover",
    measures: "from a host's death until its vm's unit is active elsewhere, with the default and the fast times",
    run: deaths,
};

pub(super) const FENCE: Bench = Bench {
    name: "fence-delay",
    measures: "how late all of a host is gone after its lease's end, under each load of fence_under_load",
    run: delays,
};

const ROUNDS: u32 = 4;

/// Profile, what is required and what is aimed at, in seconds.
const PROFILES: [(&str, f64, f64); 2] = [("default", 12.0, 9.5), ("fast", 5.0, 4.4)];

/// G of the default times, in milliseconds, which the fence must keep; 200 is aimed at.
const GRACE_MS: f64 = 1000.0;
const AIM_MS: f64 = 200.0;

fn deaths(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::build_release(workspace)?;
    let image = Image::ready(workspace, &mut step::say)?;
    let mut outcome = Outcome::new(BENCH.name, ROUNDS);
    for (profile, must, goal) in PROFILES {
        let mut context = Context::released(workspace, &image);
        let times = figures::host_deaths(&mut context, profile, ROUNDS)?;
        context.end_worlds()?;
        step::say(&format!("{profile}: {times:.2?}"));
        let worst = times.iter().max().map_or(f64::NAN, Duration::as_secs_f64);
        let metric = format!("active elsewhere, {profile}, worst");
        let limit = Limit { metric: &metric, unit: "s", ours: worst, must };
        outcome.add_aim(&limit, goal, Better::Lower);
    }
    Ok(outcome)
}

fn delays(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::build_release(workspace)?;
    let image = Image::ready(workspace, &mut step::say)?;
    let mut context = Context::released(workspace, &image);
    let delays = figures::fence_delays(&mut context)?;
    context.end_worlds()?;
    let mut outcome = Outcome::new(FENCE.name, 1);
    for (name, delay) in delays {
        let limit = Limit { metric: name, unit: "ms", ours: delay.as_secs_f64() * 1000.0, must: GRACE_MS };
        outcome.add_aim(&limit, AIM_MS, Better::Lower);
    }
    Ok(outcome)
}
