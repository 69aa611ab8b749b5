//! `closure-copy`, `closure-small`, `closure-rtt`: a closure to a host that has nothing, beside Nix.
//!
//! Two hosts. One serves the closure: to us by the daemon's own server, to Nix as a binary cache in
//! files, uncompressed, by the web server of this machine. The other fetches into an empty store, by
//! turns with us and with Nix, the one that goes first changing with each round. Every run gets an empty
//! `/nix` of its own, because removing a large store makes the next run slow; what was cached of the
//! binary cache is wiped; everything to be read is read before, and disks are synced.

mod far;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use blixard_testkit::Workspace;
use blixard_testkit::host::Host;
use blixard_testkit::image::Image;
use blixard_testkit::world::{Lifetime, World};

use far::Far;

use super::outcome::{Better, Limit, Rounds};
use super::{Bench, Outcome};
use crate::step;

pub(super) const COPY: Bench = Bench {
    name: "closure-copy",
    measures: "1,500 paths, 1.1 GB to an empty store, beside `nix-store --realise` from a binary cache",
    run: |workspace| run(workspace, &COPY_CASE),
};
pub(super) const SMALL: Bench = Bench {
    name: "closure-small",
    measures: "1,000 paths, 10 MB to an empty store, beside `nix copy`",
    run: |workspace| run(workspace, &SMALL_CASE),
};
pub(super) const RTT: Bench = Bench {
    name: "closure-rtt",
    measures: "1,000 paths, 10 MB at a round trip of 20 ms, beside `nix copy`",
    run: |workspace| run(workspace, &RTT_CASE),
};

const LAB: &str = "/usr/local/bin/blixard-closure-lab";
const ROOT: &str = "/nix/var/nix/gcroots/blixard/vms/default/lab/1";
const OURS: u16 = 7000;
const THEIRS: u16 = 7100;
/// What our ends may hold, in MiB: 32 for the transfer beside what a process of tokio needs anyway.
const MEMORY_MIB: f64 = 96.0;

struct Case {
    name: &'static str,
    paths: u32,
    bytes: u64,
    files: u32,
    rounds: u32,
    round_trip_ms: u32,
    /// The peer's command, but for the root.
    peer: &'static str,
    must: f64,
    goal: f64,
}

const COPY_CASE: Case = Case {
    name: "closure-copy",
    paths: 1500,
    bytes: 1_130_000_000,
    files: 21,
    rounds: 5,
    round_trip_ms: 0,
    peer: "nix-store --option substituters http://PEER --option require-sigs false --realise",
    must: 0.8,
    goal: 0.6,
};
const SMALL_CASE: Case = Case {
    name: "closure-small",
    paths: 1000,
    bytes: 10_000_000,
    files: 2,
    rounds: 5,
    round_trip_ms: 0,
    peer: "nix copy --no-check-sigs --from http://PEER",
    must: 0.25,
    goal: 0.2,
};
const RTT_CASE: Case =
    Case { name: "closure-rtt", rounds: 2, round_trip_ms: 20, must: 0.1, goal: 0.06, ..SMALL_CASE };

/// The hosts and what they know of each other.
struct Bed<'a> {
    source: &'a Host,
    target: &'a Host,
    /// Where the source is reached.
    address: &'a str,
    root: String,
    reference: String,
}

fn run(workspace: &Workspace, case: &Case) -> anyhow::Result<Outcome> {
    step::cargo(workspace, &["build", "--release", "-p", "blixard-closure-lab"], &[])?;
    let image = Image::ready(workspace, &mut step::say)?;
    let world = World::start(workspace, &image, 2, Lifetime::Attached)?;
    let outcome = measure(workspace, &world, case);
    outcome.and_then(|outcome| world.end().map(|()| outcome))
}

fn measure(workspace: &Workspace, world: &World, case: &Case) -> anyhow::Result<Outcome> {
    let lab = workspace.target().join("release/blixard-closure-lab");
    let (source, target) = (world.host(0)?, world.host(1)?);
    for host in [source, target] {
        host.copy_in(&lab, LAB, 0o755)?;
        // Nix works on the store itself, as root: no daemon holds an old /nix.
        host.shell("systemctl stop nix-daemon.socket nix-daemon.service; mkdir -p /scratch")?;
    }
    let Case { paths, bytes, files, .. } = case;
    let make =
        format!("{LAB} make --name bench --paths {paths} --bytes {bytes} --files {files} --root {ROOT}");
    let root = step::step("making the closure", || source.shell(&make))?.trim().to_owned();
    let cache = format!("nix copy --to 'file:///scratch/cache?compression=none' {root}");
    step::step("making the binary cache", || source.shell(&cache))?;
    let reference = source.run_ok(&[LAB, "reference", &root])?.trim().to_owned();
    let far = match case.round_trip_ms {
        0 => None,
        round_trip_ms => Some(Far::between(source, target, round_trip_ms)?),
    };
    let address = if far.is_some() { far::ADDRESS } else { source.address() };
    let serve = format!("{LAB} serve --listen {address}:{OURS}");
    source.shell(&format!("systemd-run --quiet --unit=ours -p LimitNOFILE=65536 {serve}"))?;
    let _web = WebServer::start(source, address)?;
    if let Some(far) = &far {
        far.check(target, THEIRS)?;
    }
    let bed = Bed { source, target, address, root, reference };
    compare(&bed, case)
}

fn compare(bed: &Bed<'_>, case: &Case) -> anyhow::Result<Outcome> {
    let (mut pairs, mut memory) = (Vec::new(), 0_f64);
    for round in 0..case.rounds {
        let (ours, peer);
        if round % 2 == 0 {
            ours = bed.ours(round)?;
            peer = bed.peer(round, case)?;
        } else {
            peer = bed.peer(round, case)?;
            ours = bed.ours(round)?;
        }
        memory = memory.max(ours.memory_mib);
        step::say(&format!("round {round}: ours {:.2} s, Nix {peer:.2} s", ours.seconds));
        pairs.push((ours.seconds, peer));
    }
    let mut outcome = Outcome::new(case.name, case.rounds);
    let Case { must, goal, .. } = *case;
    outcome.add_rounds(&Rounds { metric: "closure into an empty store", unit: "s", pairs, must, goal });
    let limit = |metric, ours| Limit { metric, unit: "MiB", ours, must: MEMORY_MIB };
    outcome.add_limit(&limit("peak memory of who fetches", memory), Better::Lower);
    outcome.add_limit(&limit("peak memory of who serves", bed.serving_memory()?), Better::Lower);
    Ok(outcome)
}

struct Ours {
    seconds: f64,
    memory_mib: f64,
}

/// Times a command line, in microseconds; what it said goes to standard error.
const TIMED: &str = r#"begun=$EPOCHREALTIME
eval "$1" >/tmp/timed.log 2>&1 || { tail -n 20 /tmp/timed.log >&2; exit 1; }
echo $(( ${EPOCHREALTIME/./} - ${begun/./} )); cat /tmp/timed.log >&2"#;

impl Bed<'_> {
    fn ours(&self, round: u32) -> anyhow::Result<Ours> {
        self.empty_store(&format!("ours-{round}"))?;
        let address = format!("{}:{OURS}", self.address);
        let command = format!("{LAB} fetch --closure '{}' --peer {address}", self.reference);
        let (seconds, said) = self.timed(&command)?;
        let peak = said.lines().find_map(|line| line.strip_prefix("fetched; peak ")?.strip_suffix(" KiB"));
        let memory_mib = peak.context("no peak of memory")?.parse::<f64>()? / 1024.0;
        Ok(Ours { seconds, memory_mib })
    }

    fn peer(&self, round: u32, case: &Case) -> anyhow::Result<f64> {
        self.empty_store(&format!("peer-{round}"))?;
        let address = format!("{}:{THEIRS}", self.address);
        let command = format!("{} {}", case.peer.replace("PEER", &address), self.root);
        Ok(self.timed(&command)?.0)
    }

    fn timed(&self, command: &str) -> anyhow::Result<(f64, String)> {
        let output = self.target.run(&["bash", "-c", TIMED, "timed", command])?;
        ensure!(output.status.success(), "{}", output.unexpected("failed"));
        let seconds = output.stdout.trim().parse::<f64>()? / 1e6;
        // The same closure in both cases.
        let reference = self.target.run_ok(&[LAB, "reference", &self.root])?;
        ensure!(reference.trim() == self.reference, "another closure arrived: {reference}");
        Ok((seconds, output.stderr))
    }

    fn empty_store(&self, name: &str) -> anyhow::Result<()> {
        let script = "while mountpoint -q /nix; do umount /nix; done; mkdir -p /scratch/$1 /nix; \
            mount --bind /scratch/$1 /nix; rm -rf /root/.cache/nix; mkdir -p /nix/store; nix-store --init; sync";
        self.target.run_ok(&["bash", "-euc", script, "empty", name])?;
        self.source.shell(
            "cat /scratch/cache/nar/* >/dev/null; find /nix/store -type f -exec cat {} + >/dev/null",
        )?;
        Ok(())
    }

    /// Ends the server, which then says what it had at most.
    fn serving_memory(&self) -> anyhow::Result<f64> {
        self.source.run_ok(&["systemctl", "stop", "ours"])?;
        let said = self.source.run_ok(&["journalctl", "--unit=ours", "--output=cat", "--no-pager"])?;
        let peak = said.lines().find_map(|line| line.strip_prefix("peak ")?.strip_suffix(" KiB"));
        Ok(peak.with_context(|| format!("no peak of memory: {said}"))?.parse::<f64>()? / 1024.0)
    }
}

/// Serves the binary cache's files over HTTP, as a host's process, by this machine's Python.
struct WebServer(Child);

impl WebServer {
    fn start(source: &Host, address: &str) -> anyhow::Result<Self> {
        let folder = source.see("/scratch/cache")?;
        let leader = far::leader(source)?;
        // Keeps connections open, and serves many at once, as nginx would.
        let program = "import sys, functools as f, http.server as h\n\
            class K(h.SimpleHTTPRequestHandler):\n protocol_version = 'HTTP/1.1'\n log_message = lambda *a: None\n\
            h.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), f.partial(K, directory=sys.argv[3])).serve_forever()";
        let child = Command::new("nsenter")
            .args(["--net", "--target"])
            .arg(leader)
            .args(["--", "python3", "-c", program, address, &THEIRS.to_string()])
            .arg(folder)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start python3 as the web server")?;
        let server = Self(child);
        blixard_testkit::wait::until("the web server to answer", Duration::from_secs(20), || {
            let asked = source.run(&["curl", "-sf", &format!("http://{address}:{THEIRS}/nix-cache-info")])?;
            Ok(if asked.status.success() {
                blixard_testkit::wait::Seen::Done(())
            } else {
                blixard_testkit::wait::Seen::Instead(asked.unexpected("did not answer").to_string())
            })
        })?;
        Ok(server)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
