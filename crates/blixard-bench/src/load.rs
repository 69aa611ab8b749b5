//! The load: callers that each write, wait for the answer, and write again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::etcd::kv_client::KvClient;
use crate::etcd::maintenance_client::MaintenanceClient;
use crate::etcd::{PutRequest, StatusRequest};

/// Callers that share a connection: a program that uses a store has one or a few.
const CALLERS_PER_CONNECTION: usize = 64;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Whom to ask, as http://host:port
    #[arg(long)]
    endpoint: String,
    /// How many callers
    #[arg(long)]
    callers: usize,
    /// How long it counts, in milliseconds
    #[arg(long)]
    measure_ms: u64,
    /// How long it runs before that, in milliseconds
    #[arg(long, default_value_t = 0)]
    warm_ms: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 300)]
    value: usize,
    /// How many different keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Write each key once and stop
    #[arg(long)]
    fill: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    /// Acknowledged while it counted.
    writes: usize,
    /// Acknowledged in all.
    all_writes: usize,
    errors: usize,
    seconds: f64,
    p50_us: u32,
    p99_us: u32,
    max_us: u32,
}

/// What one caller saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<u32>,
    early: usize,
    errors: usize,
}

pub(crate) fn endpoint(address: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true))
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    ensure!(arguments.callers > 0, "no callers");
    let mut channels = Vec::new();
    for _ in 0..arguments.callers.div_ceil(CALLERS_PER_CONNECTION) {
        channels.push(endpoint(&arguments.endpoint)?.connect().await.context("cannot connect")?);
    }
    let begun = Instant::now();
    let from = begun + Duration::from_millis(arguments.warm_ms);
    let until = from + Duration::from_millis(arguments.measure_ms);
    let mut callers = JoinSet::new();
    for (caller, channel) in (0..arguments.callers).zip(channels.iter().cycle()) {
        let plan = Plan {
            value: Bytes::from(vec![b'v'; arguments.value]),
            next: caller as u64,
            step: arguments.callers as u64,
            keys: arguments.keys,
            fill: arguments.fill,
            from,
            until,
        };
        callers.spawn(call(KvClient::new(channel.clone()), plan));
    }
    let mut seen = Seen::default();
    while let Some(of_one) = callers.join_next().await {
        let of_one = of_one?;
        seen.latencies.extend(of_one.latencies);
        seen.early += of_one.early;
        seen.errors += of_one.errors;
    }
    let seconds = if arguments.fill {
        begun.elapsed().as_secs_f64()
    } else {
        Duration::from_millis(arguments.measure_ms).as_secs_f64()
    };
    seen.latencies.sort_unstable();
    let report = Report {
        writes: seen.latencies.len(),
        all_writes: seen.latencies.len() + seen.early,
        errors: seen.errors,
        seconds,
        p50_us: quantile(&seen.latencies, 50),
        p99_us: quantile(&seen.latencies, 99),
        max_us: seen.latencies.last().copied().unwrap_or_default(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn quantile(sorted: &[u32], percent: usize) -> u32 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

struct Plan {
    value: Bytes,
    next: u64,
    step: u64,
    keys: u64,
    fill: bool,
    from: Instant,
    until: Instant,
}

async fn call(mut client: KvClient<Channel>, mut plan: Plan) -> Seen {
    let mut seen = Seen::default();
    loop {
        let begun = Instant::now();
        if (plan.fill && plan.next >= plan.keys) || (!plan.fill && begun >= plan.until) {
            return seen;
        }
        let key = format!("key-{:012}", plan.next % plan.keys).into();
        let answer = client.put(PutRequest { key, value: plan.value.clone() }).await;
        let ended = Instant::now();
        match answer {
            Err(_) => {
                seen.errors += 1;
                // The other side is asked again at once, but others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            Ok(_) if !plan.fill && ended > plan.until => {}
            Ok(_) if ended < plan.from => seen.early += 1,
            Ok(_) => {
                seen.latencies.push(u32::try_from((ended - begun).as_micros()).unwrap_or(u32::MAX));
            }
        }
        plan.next += plan.step;
    }
}

/// Prints which of these leads.
pub(crate) async fn leader(endpoints: &[String]) -> anyhow::Result<()> {
    for (number, address) in endpoints.iter().enumerate() {
        let Ok(channel) = endpoint(address)?.connect().await else { continue };
        let Ok(status) = MaintenanceClient::new(channel).status(StatusRequest {}).await else { continue };
        let status = status.into_inner();
        if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
            println!("{number}");
            return Ok(());
        }
    }
    anyhow::bail!("none of these leads")
}
