//! What a deployment would do, for a person or a script.
//!
//! Owns: its lines and its JSON. Refuses to know: how it is foreseen; the daemon does that.
#![expect(clippy::struct_field_names, reason = "a field is called as its key")]

use blixard_proto::v1::deploy_event::Planned;
use blixard_proto::v1::{Fate, PlannedVm};
use serde::Serialize;

use crate::command::Session;
use crate::error::Failure;
use crate::output::{Format, change, json, one_line};

/// `deploy --dry-run`.
#[derive(Debug, Serialize)]
struct Plan {
    vms: Vec<Vm>,
}

/// A vm as it would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Vm {
    vm: String,
    /// added, changed, unchanged.
    change: &'static str,
    /// The generation it should run now; null for a new vm.
    generation_before: Option<u64>,
    generation: u64,
    /// Whether its runner would be built.
    builds: bool,
    /// stays, restarts, starts, waits, stopped.
    fate: &'static str,
    node: Option<String>,
    /// What it would wait for.
    detail: Option<String>,
}

/// Writes the plan as the result of the command.
pub(super) fn write(session: &mut Session<'_>, planned: Planned) -> Result<(), Failure> {
    let vms: Vec<Vm> = planned.vms.into_iter().map(Vm::from).collect();
    match session.format {
        Format::Json => json::write(session.out, &Plan { vms }),
        Format::Table => vms.iter().try_for_each(|vm| Ok(writeln!(session.out, "{}", vm.line())?)),
    }
}

impl From<PlannedVm> for Vm {
    fn from(vm: PlannedVm) -> Self {
        let fate = match vm.fate() {
            Fate::Stays => "stays",
            Fate::Restarts => "restarts",
            Fate::Placed => "starts",
            Fate::Waits => "waits",
            Fate::Stopped => "stopped",
            Fate::Done => "done",
            Fate::Unspecified => "unknown",
        };
        Self {
            change: change(vm.change),
            generation_before: vm.generation_before,
            generation: vm.generation,
            builds: vm.builds,
            fate,
            node: json::some(vm.node),
            detail: json::some(vm.detail),
            vm: vm.vm,
        }
    }
}

impl Vm {
    fn line(&self) -> String {
        let generation = match self.generation_before.filter(|before| *before != self.generation) {
            Some(before) => format!("generation {before} -> {}", self.generation),
            None => format!("generation {}", self.generation),
        };
        let build = if self.builds { ", to be built" } else { "" };
        let on = self.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let why = self.detail.as_ref().map(|why| format!(": {}", one_line(why))).unwrap_or_default();
        format!("{}: {}, {generation}{build}, {}{on}{why}", self.vm, self.change, self.fate)
    }
}
