//! Our nodes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use blixard_testkit::wait::{self, Seen};

use super::Load;
use super::group::{Group, Process, Tool};

const NODES: usize = 3;
const PEER_PORT: usize = 24_380;
const CLIENT_PORT: usize = 24_480;
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the load goes on beside a snapshot.
const BESIDE_MS: u32 = 6_000;

fn peer_address(number: usize) -> String {
    format!("127.0.0.1:{}", PEER_PORT + number)
}

fn endpoint(number: usize) -> String {
    format!("http://127.0.0.1:{}", CLIENT_PORT + number)
}

fn node(tool: &Tool, folder: &Path, number: usize) -> anyhow::Result<Process> {
    let program = tool.path().display().to_string();
    let directory = folder.join(number.to_string()).display().to_string();
    let clients = format!("127.0.0.1:{}", CLIENT_PORT + number);
    let argv =
        ["node", "--id", &(number + 1).to_string(), "--dir", &directory, "--peers", &peer_address(number)];
    let mut argv: Vec<String> = argv.iter().map(|&argument| argument.to_owned()).collect();
    argv.insert(0, program);
    argv.extend(["--clients".to_owned(), clients]);
    if std::env::var_os("BLIXARD_BENCH_CALLER").is_none() {
        argv.push("--own-thread".to_owned());
    }
    Process::start(argv)
}

/// Three nodes that are one cluster.
pub(super) fn start(tool: &Tool, folder: &Path) -> anyhow::Result<Group> {
    std::fs::create_dir_all(folder)?;
    let mut processes = Vec::new();
    for number in 0..NODES {
        processes.push(node(tool, folder, number)?);
    }
    let endpoints: Vec<String> = (0..NODES).map(endpoint).collect();
    let first = endpoint(0);
    wait::until("our first node", START_LIMIT, || {
        Ok(tool
            .run(&["form", &first])
            .map_or_else(|error| Seen::Instead(error.to_string()), |_| Seen::Done(())))
    })?;
    let group = Group { name: "ours", tool: tool.clone(), processes, endpoints, syncs, rejoined };
    group.leader()?;
    for number in 1..NODES {
        add(tool, &first, number)?;
    }
    tool.run(&["voters", &first, "1", "2", "3"])?;
    Ok(group)
}

/// Adds a node, or waits for one that is a member to catch up.
fn add(tool: &Tool, leader: &str, number: usize) -> anyhow::Result<()> {
    wait::until("a node to catch up", START_LIMIT, || {
        let added = tool.run(&["add", leader, &(number + 1).to_string(), &peer_address(number)]);
        Ok(added.map_or_else(|error| Seen::Instead(error.to_string()), |_| Seen::Done(())))
    })
}

fn rejoined(tool: &Tool, leader: &str, number: usize, _: &str) -> anyhow::Result<()> {
    add(tool, leader, number)
}

fn syncs(tool: &Tool, endpoint: &str) -> anyhow::Result<f64> {
    let counters: serde_json::Value = serde_json::from_str(&tool.run(&["counters", endpoint])?)?;
    counters.get("durable_commits").and_then(serde_json::Value::as_f64).context("no counter of commits")
}

/// Starts a fourth node under load; how many seconds until it has caught up, and what the load saw.
pub(super) fn add_fourth(group: &mut Group, leader: usize) -> anyhow::Result<(f64, Load)> {
    let folder = group
        .processes
        .first()
        .and_then(|process| process.argv.iter().skip_while(|argument| *argument != "--dir").nth(1))
        .context("a node has a directory")?;
    let folder = Path::new(folder).parent().context("which is in one")?.to_owned();
    let fourth = node(&group.tool, &folder, NODES)?;
    let endpoint = group.endpoint(leader)?.to_owned();
    let measured = std::thread::scope(|scope| {
        let beside = scope.spawn(|| group.load(leader, 16, 0, BESIDE_MS));
        let begun = Instant::now();
        add(&group.tool, &endpoint, NODES)?;
        let seconds = begun.elapsed().as_secs_f64();
        let load = beside.join().map_err(|_| anyhow::anyhow!("the load has panicked"))??;
        anyhow::Ok((seconds, load))
    });
    group.processes.push(fourth);
    measured
}
