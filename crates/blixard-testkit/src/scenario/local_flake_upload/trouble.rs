//! Uploads that are not what they say, that end too early, or that a garbage collection comes upon.

use anyhow::{Context as _, ensure};

use super::super::bad_input::{Expected, check};
use super::{
    Case, LIMIT, ROOTS, SPOOL, begin, deploy, ended, nothing_is_kept, owner, owner_ok, runner, said,
};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const CASES: &[Case] = &[
    ("a source with a wrong hash", a_corrupt_source),
    ("a source that is cut short", a_short_source),
    ("a caller who is killed", a_killed_caller),
    ("a collection during a deployment", a_collection),
];

/// A flake of this vm in a folder of its name, and a `nix` before the real one that treats a dump so.
fn prepare(host: &Host, name: &str, treatment: &str) -> anyhow::Result<()> {
    let flake =
        format!("{{ outputs = {{ self }}: {{ microvms.{name} = {}; }}; }}", runner(name, "", "\"${self}\""));
    host.write("/tmp/flake.nix", flake, 0o644)?;
    let nix = format!(
        "#!/bin/bash\ncase \"$*\" in\n*dump-path*) /usr/bin/nix \"$@\" | {treatment} ;;\n*) exec /usr/bin/nix \"$@\" ;;\nesac\n"
    );
    host.write(&format!("/home/carol/bin-{name}/nix"), nix, 0o755)?;
    owner_ok(host, &format!("mkdir {name}; cp /tmp/flake.nix {name}/; head -c 5M /dev/zero > {name}/zeroes"))
        .map(drop)
}

fn prepared_deploy(name: &str) -> String {
    format!("PATH=$HOME/bin-{name}:$PATH blixard deploy ./{name}")
}

/// No path of the store holds the flake.
fn is_not_there(host: &Host, name: &str) -> anyhow::Result<()> {
    let found = host.shell(&format!("grep -l microvms.{name} /nix/store/*/flake.nix 2>/dev/null || true"))?;
    ensure!(found.is_empty(), "it is in the store: {found}");
    Ok(())
}

fn a_corrupt_source(host: &Host) -> anyhow::Result<()> {
    prepare(host, "corrupt", "sed s/schema/schemo/")?;
    let refused = owner(host, &prepared_deploy("corrupt"))?;
    check(
        &refused,
        &Expected { code: 6, says: &["what was sent for /nix/store/", "has the hash"], hint: "run it again" },
    )?;
    is_not_there(host, "corrupt")?;
    deploy(host, "./corrupt").map(drop).context("the true one is taken")
}

fn a_short_source(host: &Host) -> anyhow::Result<()> {
    prepare(host, "short", "head -c 100000")?;
    let refused = owner(host, &prepared_deploy("short"))?;
    check(&refused, &Expected { code: 6, says: &["has the hash"], hint: "" })?;
    is_not_there(host, "short")
}

/// In the middle of an upload.
fn a_killed_caller(host: &Host) -> anyhow::Result<()> {
    prepare(host, "killed", "(head -c 1000000; exec sleep infinity)")?;
    begin(host, &prepared_deploy("killed"))?;
    wait::until("a part of the source to come", LIMIT, || {
        let there = host.shell(&format!("find {ROOTS} {SPOOL} -mindepth 1 2>/dev/null || true"))?;
        let both = there.contains(ROOTS) && there.contains("/source.nar");
        let said = said(host)?;
        ensure!(!said.contains("exit "), "it has ended: {said}");
        Ok(if both { Seen::Done(()) } else { Seen::Instead(there + &said) })
    })?;
    host.run_ok(&["pkill", "--signal=KILL", "--exact", "blixard"])?;
    nothing_is_kept(host)?;
    host.run_ok(&["pkill", "--uid=carol", "--exact", "sleep"])?;
    is_not_there(host, "killed")?;
    deploy(host, "./killed").map(drop).context("afterwards")
}

/// What was sent is kept until the deployment is done, although no generation has it yet.
fn a_collection(host: &Host) -> anyhow::Result<()> {
    prepare(host, "collected", "cat")?;
    // It evaluates for longer than a collection takes.
    let slow = "let spin = depth: if depth == 0 then 0 else builtins.foldl' (_: _: spin (depth - 1)) 0 \
        (builtins.genList (i: i) 250); in builtins.seq (spin 3)";
    owner_ok(
        host,
        &format!("sed -i \"s/microvms.collected =/microvms.collected = {slow}/\" collected/flake.nix"),
    )?;
    begin(host, "blixard deploy ./collected")?;
    wait::until("the evaluation to run", LIMIT, || {
        let units = "blixard-confined-evaluate-*.service";
        let units = host.run_ok(&["systemctl", "list-units", "--plain", "--no-legend", units])?;
        let said = said(host)?;
        ensure!(!said.contains("exit "), "it has ended: {said}");
        Ok(if units.is_empty() { Seen::Instead(said) } else { Seen::Done(()) })
    })?;
    let collected = host.shell("nix-store --gc 2>&1")?;
    let said = ended(host)?;
    let source = said.lines().find_map(|line| line.strip_prefix("uploading ")).unwrap_or("no upload");
    ensure!(said.contains(source) && !collected.contains(source), "it was collected:\n{collected}");
    ensure!(said.contains("exit 0"), "{said}");
    Ok(())
}
