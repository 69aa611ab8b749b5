//! What is unchanged is neither evaluated nor built nor restarted, and makes no generation.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "second_deploy_is_free",
    shows: "an unchanged deployment evaluates and builds nothing, also after a restart and a collection",
    needs: Needs::Blixard,
    run,
};

const SETTLE_LIMIT: std::time::Duration = std::time::Duration::from_mins(2);
const VMS: u32 = 3;
const CALLS: &str = "/var/log/nix-calls";
/// A confined Nix may write to no file, but into a pipe.
const PIPE: &str = "/run/nix-calls";
const ROOTS: &str = "/nix/var/nix/gcroots/blixard";

/// The daemon's Nix, which writes down what it is asked.
fn recording(program: &str) -> String {
    format!("#!/bin/sh\necho \"{program} $*\" >>{PIPE}\nexec {program} \"$@\"\n")
}

/// A vm: its generations, and what of it would change with a restart.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Running {
    generations: Vec<u64>,
    epoch: u64,
    invocation: String,
    main_pid: String,
}

type Vms = BTreeMap<String, Running>;

/// What a deployment said, and what its daemon asked of Nix.
struct Deployed {
    said: String,
    calls: Vec<String>,
}

impl Deployed {
    fn asked(&self, program_and_verb: &str) -> usize {
        self.calls.iter().filter(|call| call.starts_with(program_and_verb)).count()
    }

    /// Nix itself was not started, and its store was asked only whether paths are valid.
    fn cost_nothing(&self) -> anyhow::Result<()> {
        let costly = |call: &&String| !call.starts_with("nix-store --check-validity");
        let costly: Vec<&String> = self.calls.iter().filter(costly).collect();
        ensure!(costly.is_empty(), "Nix was started: {costly:#?}\nthe deployment said:\n{}", self.said);
        ensure!(!self.said.contains("evaluating"), "it evaluated:\n{}", self.said);
        Ok(())
    }

    fn says_unchanged(&self, vms: &Vms) -> anyhow::Result<()> {
        for (vm, running) in vms {
            let newest = running.generations.last().context("a vm has a generation")?;
            let line = format!("vm {vm}: unchanged (generation {newest})");
            ensure!(self.said.contains(&line), "{line:?} is not said:\n{}", self.said);
        }
        Ok(())
    }
}

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.write("/usr/local/bin/recorded-nix", recording("nix"), 0o755)?;
    host.write("/usr/local/bin/recorded-nix-store", recording("nix-store"), 0o755)?;
    host.write(CALLS, "", 0o666)?;
    host.run_ok(&["mkfifo", "--mode=666", PIPE])?;
    // Held open for writing, too, so that it does not end with the first who writes.
    let keep = format!("exec cat 0<>{PIPE} >>{CALLS}");
    host.run_ok(&["systemd-run", "--unit=nix-calls", "sh", "-c", &keep])?;
    let nix = "[nix]\ncommand = \"/usr/local/bin/recorded-nix\"\n\
               store_command = \"/usr/local/bin/recorded-nix-store\"\n";
    let config = format!("[node]\nname = \"{}\"\n{nix}", host.name());
    host.install_blixard_with(&context.binaries()?, &config)?;

    let flake = &fixture::prepare(host, Fixture::Sleepers(VMS))?;
    let first = deploy(host, flake)?;
    ensure!(first.asked("nix eval") == 1, "the first deployment evaluates once: {:#?}", first.calls);
    let vms = running(host)?;
    ensure!(vms.len() == VMS as usize, "{vms:?}");
    ensure!(vms.values().all(|vm| vm.generations == [1]), "{vms:?}");

    unchanged(host, flake, &vms).context("at once")?;
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    unchanged(host, flake, &vms).context("after a restart of the daemon")?;
    host.run_ok(&["nix-collect-garbage", "--option", "keep-derivations", "false"])?;
    unchanged(host, flake, &vms).context("after a collection that took the derivations")?;

    a_lost_root_is_made_again(host, flake, &vms)?;

    let vms = one_guest_changes(host, flake, &vms)?;
    an_unrelated_file_changes(host, flake, &vms)?;
    everything_has_been_collected(host, flake)
}

/// Somebody has removed the builder's roots: what is built again is kept again, and no new generation.
fn a_lost_root_is_made_again(host: &Host, flake: &str, vms: &Vms) -> anyhow::Result<()> {
    let roots = || host.shell(&format!("find {ROOTS}/builds -type l | sort"));
    let before = roots()?;
    ensure!(before.lines().count() == vms.len(), "one for each vm: {before}");
    host.shell(&format!("find {ROOTS}/builds -type l -delete"))?;
    deploy(host, flake)?.says_unchanged(vms)?;
    let after = wait::until("the roots to be as they were", SETTLE_LIMIT, || {
        let after = roots()?;
        Ok(if after == before { Seen::Done(after) } else { Seen::Instead(after) })
    })?;
    ensure!(after == before, "{after}");
    same(vms, &running(host)?).context("after roots were lost")
}

/// Nothing is evaluated, built, restarted or made.
fn unchanged(host: &Host, flake: &str, vms: &Vms) -> anyhow::Result<()> {
    let again = deploy(host, flake)?;
    again.cost_nothing()?;
    again.says_unchanged(vms)?;
    same(vms, &running(host)?)
}

fn one_guest_changes(host: &Host, flake: &str, before: &Vms) -> anyhow::Result<Vms> {
    host.write(&format!("{flake}/changed.nix"), "[ 2 ]\n", 0o644)?;
    a_dry_run_tells_and_changes_nothing(host, flake, before)?;
    let changed = deploy(host, flake)?;
    ensure!(changed.asked("nix eval") == 1, "{:#?}", changed.calls);
    let after = running(host)?;
    let (name, others) = ("default/sleeper-2", |vms: &Vms| {
        vms.iter().filter(|(vm, _)| *vm != "default/sleeper-2").map(|(k, v)| (k.clone(), v.clone())).collect()
    });
    let (others_before, others_after): (Vms, Vms) = (others(before), others(&after));
    same(&others_before, &others_after).context("the others stay as they were")?;
    let vm = after.get(name).context("the changed vm is there")?;
    ensure!(vm.generations == [1, 2], "exactly one new generation: {vm:?}");
    ensure!(Some(&vm.invocation) != before.get(name).map(|vm| &vm.invocation), "it was not restarted");
    unchanged(host, flake, &after).context("after a change")?;
    Ok(after)
}

fn a_dry_run_tells_and_changes_nothing(host: &Host, flake: &str, vms: &Vms) -> anyhow::Result<()> {
    let revision = |host: &Host| {
        let list: Value = serde_json::from_str(&host.run_ok(&["blixard", "vm", "list", "-o", "json"])?)?;
        anyhow::Ok(list.get("revision").cloned())
    };
    let before = revision(host)?;
    host.run_ok(&["truncate", "--size=0", CALLS])?;
    let plan = host.run_ok(&["blixard", "deploy", "--dry-run", flake])?;
    for line in [
        "default/sleeper-1: unchanged, generation 1, stays on ",
        "default/sleeper-2: changed, generation 1 -> 2, to be built, restarts on ",
    ] {
        ensure!(plan.contains(line), "{line:?} is not planned:\n{plan}");
    }
    let calls = host.run_ok(&["cat", CALLS])?;
    ensure!(!calls.contains("nix build"), "a dry run has built: {calls}");
    let gone = host.run_ok(&["blixard", "vm", "delete", "--dry-run", "sleeper-2"])?;
    ensure!(gone.contains("would be stopped on ") && gone.contains("generations 1"), "{gone}");
    ensure!(revision(host)? == before, "a dry run has gone through the log");
    same(vms, &running(host)?).context("after dry runs")
}

/// Another source has to be evaluated; that it gives the same is seen then.
fn an_unrelated_file_changes(host: &Host, flake: &str, vms: &Vms) -> anyhow::Result<()> {
    host.write(&format!("{flake}/notes.txt"), "nothing that a vm is made of\n", 0o644)?;
    let touched = deploy(host, flake)?;
    ensure!(touched.asked("nix eval") == 1, "{:#?}", touched.calls);
    ensure!(touched.asked("nix build") == 0, "nothing has to be built: {:#?}", touched.calls);
    touched.says_unchanged(vms)?;
    same(vms, &running(host)?).context("after a change of an unrelated file")?;
    unchanged(host, flake, vms).context("the other source is remembered as well")
}

/// The evaluation is remembered and nothing that it names is left: it is made again.
fn everything_has_been_collected(host: &Host, flake: &str) -> anyhow::Result<()> {
    for vm in running(host)?.keys() {
        host.run_ok(&["blixard", "vm", "delete", vm])?;
    }
    wait::until("the roots to go", SETTLE_LIMIT, || {
        let roots = host.shell(&format!("if [ -d {ROOTS} ]; then find {ROOTS} -type l; fi"))?;
        Ok(if roots.is_empty() { Seen::Done(()) } else { Seen::Instead(roots) })
    })?;
    host.run_ok(&["nix-collect-garbage"])?;
    let anew = deploy(host, flake)?;
    ensure!(anew.asked("nix eval") == 1, "derivations are there only after an evaluation: {:#?}", anew.calls);
    ensure!(running(host)?.len() == VMS as usize, "all vms run again");
    Ok(())
}

fn deploy(host: &Host, flake: &str) -> anyhow::Result<Deployed> {
    host.run_ok(&["truncate", "--size=0", CALLS])?;
    let output = host.run(&["blixard", "deploy", flake])?;
    ensure!(output.status.success(), output.unexpected("failed"));
    let calls = host.run_ok(&["cat", CALLS])?.lines().map(str::to_owned).collect();
    Ok(Deployed { said: output.stderr, calls })
}

fn running(host: &Host) -> anyhow::Result<Vms> {
    let json = host.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
    let list: Value = serde_json::from_str(&json).with_context(|| format!("no JSON: {json}"))?;
    let vms = list.get("vms").and_then(Value::as_array).context("`vm list` has no vms")?;
    vms.iter().map(|vm| one(host, vm)).collect()
}

fn one(host: &Host, vm: &Value) -> anyhow::Result<(String, Running)> {
    let text = |key: &str| vm.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in {vm}"));
    let name = text("vm")?;
    ensure!(text("status")? == "healthy", "{name} is {}", text("status")?);
    let numbers = vm.get("generations").and_then(Value::as_array).context("a vm has generations")?;
    let number = |generation: &Value| generation.get("number").and_then(Value::as_u64);
    let generations = numbers.iter().filter_map(number).collect();
    let epoch = vm.get("epoch").and_then(Value::as_u64).context("a vm has an epoch")?;
    let unit = format!(r"blixard-vm-{}-run.service", name.replace('-', r"\x2d").replace('/', "-"));
    let show = |property: &str| {
        let property = format!("--property={property}");
        anyhow::Ok(host.run_ok(&["systemctl", "show", "--value", &property, &unit])?.trim().to_owned())
    };
    let (invocation, main_pid) = (show("InvocationID")?, show("MainPID")?);
    ensure!(main_pid != "0" && !invocation.is_empty(), "{unit} does not run");
    Ok((name.to_owned(), Running { generations, epoch, invocation, main_pid }))
}

fn same(before: &Vms, after: &Vms) -> anyhow::Result<()> {
    ensure!(before == after, "something was restarted or made anew\nbefore: {before:#?}\nafter: {after:#?}");
    Ok(())
}
