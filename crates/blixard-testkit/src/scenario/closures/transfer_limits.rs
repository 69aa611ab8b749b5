//! What `[transfer]` allows is what a daemon takes: as who sends, and as who fetches.

use anyhow::{Context as _, ensure};

use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::cluster::{Kind, config, founder_config, join};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "transfer_limits",
    shows: "a closure comes no faster than its sender may send, and no faster than its receiver may fetch",
    needs: Needs::Blixard,
    run,
};

const BYTES: u64 = 8 << 20;
const BYTES_PER_S: u64 = 1_000_000;
/// Pieces that travel at once: what may be through before the pace is felt.
const PIECE: u64 = 256 << 10;
const CONFIG: &str = "/etc/blixard/blixardd.toml";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let [builder, host] = context.world(2)?.hosts() else { anyhow::bail!("a world of two hosts") };
    let (builder, host) = (builder.clone(), host.clone());
    let sends = format!("[transfer]\nsend_bytes_per_s = {BYTES_PER_S}\n");
    builder.install_blixard_with(&binaries, &(founder_config(&builder, Kind::Builds) + &sends))?;
    builder.run_ok(&["blixard", "cluster", "init"])?;
    join(&host, &binaries, &builder, Kind::Runs)?;
    deploy(&builder, 1)?;
    comes_slowly(&host, 1).context("its sender may send so much")?;

    restart_with(&builder, &founder_config(&builder, Kind::Builds))?;
    let fetches = format!("[transfer]\nfetch_bytes_per_s = {BYTES_PER_S}\n");
    restart_with(&host, &(config(&host, Kind::Runs) + &fetches))?;
    deploy(&builder, 2)?;
    comes_slowly(&host, 2).context("its receiver may fetch so much")?;
    refused(&builder)
}

/// A generation of a vm whose runner has this many bytes that nobody has yet.
fn deploy(builder: &Host, generation: u64) -> anyhow::Result<()> {
    let flake = fixture::prepare(builder, Fixture::Sleepers(1))?;
    let filler = format!("head -c {BYTES} /dev/urandom > $out/share/filler-{generation}");
    builder.shell(&format!(
        "sed -i 's|mkdir -p $out/bin|&; mkdir -p $out/share; {filler}; mkdir -p $out/bin|' {flake}/flake.nix"
    ))?;
    builder.run_ok(&["blixard", "deploy", &flake]).map(drop)
}

fn comes_slowly(host: &Host, generation: u64) -> anyhow::Result<()> {
    let argv = ["journalctl", "--unit=blixardd", "--output=short-unix", "--no-pager"];
    let journal = host.run_ok(&argv)?;
    let mut begun = None;
    for line in journal.lines().filter(|line| line.contains("default/sleeper-1")) {
        let at =
            || -> anyhow::Result<f64> { Ok(line.split_whitespace().next().unwrap_or_default().parse()?) };
        if line.contains(" fetching ") {
            begun = begun.or(Some(at()?));
        } else if line.contains(" fetched ") {
            let begun = begun.take().with_context(|| format!("it was not seen to begin: {journal}"))?;
            if line.contains(&format!("generation={generation} ")) {
                return in_time(at()? - begun);
            }
        }
    }
    anyhow::bail!("generation {generation} was not fetched: {journal}")
}

#[allow(clippy::cast_precision_loss, reason = "some megabytes")]
fn in_time(took: f64) -> anyhow::Result<()> {
    let least = (BYTES - PIECE) as f64 / BYTES_PER_S as f64;
    ensure!(
        took >= least,
        "{BYTES} bytes came in {took:.2} s; at {BYTES_PER_S} a second it takes {least:.2}"
    );
    Ok(())
}

fn restart_with(host: &Host, config: &str) -> anyhow::Result<()> {
    host.write(CONFIG, config, 0o644)?;
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    wait::until("the cluster to answer", crate::scenario::cluster::LIMIT, || {
        let listed = host.run(&["blixard", "vm", "list"])?;
        Ok(if listed.status.success() { Seen::Done(()) } else { Seen::Instead(listed.stderr) })
    })
}

/// A speed at which uploads would look dead to who fetches is told with the numbers.
fn refused(host: &Host) -> anyhow::Result<()> {
    host.write("/tmp/slow.toml", "[transfer]\nsend_bytes_per_s = 1000\n", 0o644)?;
    let checked = host.run(&["blixardd", "--config", "/tmp/slow.toml", "--check-config"])?;
    let said = checked.unexpected("was taken");
    ensure!(!checked.status.success() && checked.stderr.contains("at least 838861"), "{said}");
    Ok(())
}
