//! What people read: tables of lists, fields of single things.
//!
//! Made of the same structs as the JSON, so that both say the same. Refuses to know: gRPC.

use std::fmt::Display;
use std::io::{self, Write};

use super::json::{Generation, History, Node, Status, Vm};
use super::table::Table;
use super::time::utc;
use super::{cell, one_line, set_in};

/// Stands for what is not there.
const NOTHING: &str = "-";

/// `vm list`.
pub(crate) fn vms(out: &mut dyn Write, vms: &[Vm]) -> io::Result<()> {
    let mut table = Table::new(["NAME", "STATUS", "NODE", "GENERATION", "REASON"]);
    for vm in vms {
        let reason = vm.reason.as_deref().map(cell).unwrap_or_default();
        table.row([
            vm.vm.clone(),
            vm.status.to_owned(),
            or_nothing(vm.node.as_ref()),
            generation(vm),
            reason,
        ]);
    }
    table.write(out)
}

/// Running / wanted.
fn generation(vm: &Vm) -> String {
    format!("{}/{}", or_nothing(vm.running_generation), vm.generation)
}

fn or_nothing(value: Option<impl Display>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// `vm show`.
pub(crate) fn vm(out: &mut dyn Write, vm: &Vm) -> io::Result<()> {
    field(out, "Name", &vm.vm)?;
    field(out, "Status", vm.status)?;
    if let Some(reason) = &vm.reason {
        field(out, "Reason", set_in(reason, 15))?;
    }
    field(out, "Desired", vm.desired)?;
    field(out, "Node", or_nothing(vm.node.as_ref()))?;
    field(out, "Generation", format!("{} (running/target)", generation(vm)))?;
    field(out, "Epoch", vm.epoch)?;
    field(out, "Failures", vm.failures)?;
    field(out, "Source", one_line(&vm.source))?;
    if !vm.generations.is_empty() {
        writeln!(out)?;
        generations(out, &vm.generations)?;
    }
    if !vm.spec.is_null() {
        writeln!(out, "\nSpec:\n{:#}", vm.spec)?;
    }
    Ok(())
}

fn generations(out: &mut dyn Write, generations: &[Generation]) -> io::Result<()> {
    let mut table = Table::new(["GENERATION", "DEPLOYED", "SIZE", "PATHS", "RUNNER"]);
    for generation in generations.iter().rev() {
        let closure = generation.closure.as_ref();
        table.row([
            generation.number.to_string(),
            utc(generation.at_ms),
            or_nothing(closure.map(|closure| format!("{} MiB", closure.nar_size.div_ceil(1 << 20)))),
            or_nothing(closure.map(|closure| closure.path_count)),
            or_nothing(closure.map(|closure| &closure.root)),
        ]);
    }
    table.write(out)
}

/// `vm history`.
pub(crate) fn history(out: &mut dyn Write, history: &History) -> io::Result<()> {
    let mut table = Table::new(["GENERATION", "STATE", "DEPLOYED", "BY", "DEPLOYMENT", "RUNNER"]);
    for past in &history.generations {
        let state = match (past.runs, past.target) {
            (true, true) => "runs",
            (true, false) => "runs, to be replaced",
            (false, true) => "wanted",
            (false, false) => NOTHING,
        };
        let generation = &past.generation;
        table.row([
            generation.number.to_string(),
            state.to_owned(),
            utc(generation.at_ms),
            or_nothing(generation.by.as_ref()),
            generation.deployment.clone(),
            or_nothing(generation.closure.as_ref().map(|closure| &closure.root)),
        ]);
    }
    table.write(out)
}

/// `node list`.
pub(crate) fn nodes(out: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    let mut table = Table::new([
        "ID",
        "NAME",
        "STATE",
        "ROLES",
        "VMS",
        "VCPUS",
        "MEMORY",
        "DISK",
        "SYSTEM",
        "KVM",
        "HYPERVISORS",
        "KERNEL",
        "NIX",
        "VERSION",
    ]);
    for node in nodes {
        let facts = node.facts.as_ref();
        let memory = or_nothing(facts.map(|facts| facts.memory_mib));
        table.row([
            node.id.to_string(),
            node.name.clone(),
            node.state.to_owned(),
            node.roles.join(","),
            node.vms.to_string(),
            format!("{}/{}", node.used_vcpus, or_nothing(facts.map(|facts| facts.cpus))),
            format!("{}/{memory} MiB", node.used_memory_mib),
            format!("{}/{} MiB", node.used_disk_mib, or_nothing(facts.and_then(|facts| facts.disk_mib))),
            or_nothing(facts.map(|facts| one_line(&facts.system))),
            or_nothing(facts.map(|facts| if facts.kvm { "yes" } else { "no" })),
            or_nothing(facts.map(|facts| facts.hypervisors.join(",")).filter(|names| !names.is_empty())),
            or_nothing(facts.map(|facts| one_line(&facts.kernel))),
            or_nothing(facts.and_then(|facts| facts.nix_version.as_deref()).map(one_line)),
            or_nothing(facts.map(|facts| one_line(&facts.version))),
        ]);
    }
    table.write(out)
}

/// `status`.
pub(crate) fn status(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let voters: Vec<String> = status.voters.iter().map(u64::to_string).collect();
    field(out, "Cluster", &status.cluster_id)?;
    field(out, "Incarnation", status.incarnation)?;
    field(out, "Answered by", format!("{} (node {})", status.node_name, status.node))?;
    field(out, "Version", one_line(&status.version))?;
    field(out, "Leader", status.leader.map_or_else(|| "none".to_owned(), |id| format!("node {id}")))?;
    field(out, "Voters", voters.join(", "))?;
    field(out, "Term", status.term)?;
    let snapshot = status.snapshot_index.map(|index| format!(", snapshot {index}")).unwrap_or_default();
    field(out, "Log", format!("{} applied of {}{snapshot}", status.applied_index, status.last_log_index))?;
    field(out, "Nodes", status.nodes)?;
    field(out, "Vms", format!("{} healthy of {}", status.vms_healthy, status.vms))
}

fn field(out: &mut dyn Write, name: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "{:<13}{value}", format!("{name}:"))
}
/// What deleting a vm would take away.
pub(crate) fn would_delete(out: &mut dyn Write, vm: &Vm, volumes: bool) -> io::Result<()> {
    let name = &vm.vm;
    match (vm.running_generation, &vm.node) {
        (Some(generation), Some(node)) => {
            writeln!(out, "{name}: would be stopped on {node} (generation {generation} runs)")?;
        }
        _ => writeln!(out, "{name}: does not run")?,
    }
    let numbers: Vec<String> =
        vm.generations.iter().map(|generation| generation.number.to_string()).collect();
    let numbers = if numbers.is_empty() { NOTHING.to_owned() } else { numbers.join(", ") };
    writeln!(out, "{name}: would be forgotten, with its roots (generations {numbers})")?;
    let fate = if volumes { "be removed, with all that its guest has left" } else { "stay" };
    writeln!(out, "{name}: its volumes would {fate}")
}
