//! `blixard gc`: what is kept, what goes, and that it is said before.

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "gc",
    shows: "gc removes what no generation needs, forgets old ones when asked, says so before with sizes, and leaves roots of users",
    needs: Needs::Blixard,
    run,
};

const GENERATIONS: usize = 4;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    for generation in 1..=GENERATIONS {
        let flake = fixture::prepare(host, Fixture::Sleepers(1))?;
        // Another runner each time.
        host.shell(&format!("sed -i 's/\"microvm-/\"microvm-v{generation}-/' {flake}/flake.nix"))?;
        host.run_ok(&["blixard", "deploy", &flake])?;
    }
    let runners = runners(host)?;
    ensure!(runners.len() == GENERATIONS, "{} runners are rooted: {runners:?}", runners.len());
    let garbage = host.shell("date +%s%N > /tmp/garbage; nix-store --add /tmp/garbage")?.trim().to_owned();

    let theirs = root_of_a_user(host)?;

    let foreseen = collect(host, &["--dry-run", "--keep", "2"])?;
    ensure!(count(&foreseen, "forgotten")? == GENERATIONS - 2, "{foreseen}");
    ensure!(
        foreseen.get("paths").and_then(serde_json::Value::as_u64).unwrap_or_default() >= 3,
        "nothing would go: {foreseen}"
    );
    ensure!(runners.iter().all(|path| is_valid(host, path)), "a dry run has removed something");

    collect(host, &[])?;
    ensure!(!is_valid(host, &garbage), "garbage is still there");
    ensure!(runners.iter().all(|path| is_valid(host, path)), "a kept generation was collected");

    ensure!(is_valid(host, &theirs), "what a user's `result` keeps was collected");

    collect(host, &["--keep", "2"])?;
    ensure!(is_valid(host, &theirs), "the user's root went with the first collection");
    let kept = self::runners(host)?;
    ensure!(kept.len() == 2, "{} runners are rooted: {kept:?}", kept.len());
    let gone = runners.iter().filter(|path| !is_valid(host, path)).count();
    ensure!(gone == GENERATIONS - 2, "{gone} runners are gone");
    let list = host.run_ok(&["blixard", "vm", "list"])?;
    ensure!(list.contains("healthy"), "the vm does not run any more: {list}");
    Ok(())
}

/// A `result` as `nix build` leaves one, in a folder that the daemon's unit does not see.
fn root_of_a_user(host: &Host) -> anyhow::Result<String> {
    let root = "echo kept > /tmp/kept; path=$(nix-store --add /tmp/kept); \
        nix-store --realise \"$path\" --add-root /root/result >/dev/null; echo \"$path\"";
    Ok(host.shell(root)?.trim().to_owned())
}

fn collect(host: &Host, options: &[&str]) -> anyhow::Result<serde_json::Value> {
    let said = host.run_ok(&[&["blixard", "gc", "-o", "json"], options].concat())?;
    serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
}

fn count(value: &serde_json::Value, key: &str) -> anyhow::Result<usize> {
    Ok(value
        .get(key)
        .and_then(serde_json::Value::as_array)
        .with_context(|| format!("no {key} in {value}"))?
        .len())
}

fn is_valid(host: &Host, path: &str) -> bool {
    host.run(&["nix-store", "--check-validity", path]).is_ok_and(|output| output.status.success())
}

/// The runners that this host's roots keep.
fn runners(host: &Host) -> anyhow::Result<Vec<String>> {
    let listed = host.shell("find /nix/var/nix/gcroots/blixard/vms -type l -exec readlink {} + | sort -u")?;
    Ok(listed.lines().map(str::to_owned).collect())
}
