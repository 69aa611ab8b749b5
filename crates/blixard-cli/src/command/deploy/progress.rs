//! A deployment as its events tell it.
//!
//! Owns: one line for each change, and what each vm came to. Refuses to know: where events come from and
//! when a vm counts as well; the daemon says so at the end.

use std::collections::BTreeMap;

use blixard_proto::v1::deploy_event::{Accepted, BuildLog, Event, Planned, StageReached};
use blixard_proto::v1::{DeployedVm, Stage, VmChange};

use super::super::notes::{Notes, bar};
use crate::output::{change, json, lines, one_line, set_in, stage};

/// What has been told of a deployment so far.
pub(super) struct Progress {
    source: String,
    build_logs: bool,
    accepted: Option<Accepted>,
    reached: BTreeMap<String, StageReached>,
    planned: Option<Planned>,
    last_line: String,
    /// Built, and known to be needed.
    built: (u64, u64),
    /// The derivation whose build has begun last.
    current: String,
}

/// What became of a deployment.
pub(super) struct Ending {
    pub(super) deployment: json::Deployment,
    /// A line for each vm that is not well.
    pub(super) bad: Vec<String>,
}

impl Progress {
    /// Nothing has been told yet of the deployment of this source.
    pub(super) fn new(source: &str, build_logs: bool) -> Self {
        Self {
            source: source.to_owned(),
            build_logs,
            accepted: None,
            reached: BTreeMap::new(),
            planned: None,
            last_line: String::new(),
            built: (0, 0),
            current: String::new(),
        }
    }

    /// Whether the cluster carries it on by itself.
    pub(super) const fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// What it would do, if only that was asked.
    pub(super) const fn planned(&mut self) -> Option<Planned> {
        self.planned.take()
    }

    /// Tells what an event changes.
    pub(super) fn tell(&mut self, notes: &mut Notes<'_>, event: Event) {
        match event {
            Event::Evaluating(_) => self.passing(notes, format!("evaluating {}", self.source)),
            Event::Fetching(fetching) => {
                let plural = if fetching.inputs == 1 { "" } else { "s" };
                self.passing(notes, format!("fetching {} locked input{plural}", fetching.inputs));
            }
            Event::Recalled(_) => self.passing(notes, format!("evaluated before: {}", self.source)),
            Event::Building(building) => {
                self.built = (building.done, building.expected);
                self.building(notes);
            }
            Event::BuildStarted(started) => {
                self.current = derivation_name(&started.drv);
                self.building(notes);
            }
            Event::BuildLog(log) if self.build_logs => build_log(notes, &log),
            Event::Message(message) => lines(&message.text).for_each(|line| notes.line(line)),
            Event::Accepted(accepted) => {
                for vm in &accepted.vms {
                    self.line(notes, accepted_line(vm));
                }
                notes.foot("");
                self.accepted = Some(accepted);
            }
            Event::Planned(planned) => {
                notes.foot("");
                self.planned = Some(planned);
            }
            Event::Stage(reached) => self.stage(notes, reached),
            Event::BuildLog(_) | Event::Finished(_) => {}
        }
    }

    /// One line for each change: what has just been said is not said again.
    fn line(&mut self, notes: &mut Notes<'_>, line: String) {
        if line != self.last_line {
            notes.line(&line);
            self.last_line = line;
        }
    }

    /// What only matters until the next: it stands at the foot where there is one.
    fn passing(&mut self, notes: &mut Notes<'_>, line: String) {
        if notes.is_watched() {
            notes.foot(&line);
        } else {
            self.line(notes, line);
        }
    }

    fn building(&mut self, notes: &mut Notes<'_>) {
        let (done, expected) = self.built;
        let bar = if notes.is_watched() { format!(" [{}]", bar(done, expected)) } else { String::new() };
        let current = match self.current.as_str() {
            // With the last one built there is no current one.
            current if done < expected && !current.is_empty() => format!(" {current}"),
            _ => String::new(),
        };
        self.passing(notes, format!("building{bar} {done}/{expected}{current}"));
    }

    fn stage(&mut self, notes: &mut Notes<'_>, reached: StageReached) {
        let line = stage_line(&reached);
        let is_final = is_final(&reached);
        self.reached.insert(reached.vm.clone(), reached);
        if !notes.is_watched() || is_final {
            self.line(notes, line.clone());
        }
        let total = self.accepted.as_ref().map_or(0, |accepted| accepted.vms.len()) as u64;
        let settled = self.reached.values().filter(|reached| self::is_final(reached)).count() as u64;
        let now = if is_final { String::new() } else { format!(" {line}") };
        notes.foot(&format!("rolling out [{}] {settled}/{total}{now}", bar(settled, total)));
    }

    /// The deployment has ended, well or not.
    pub(super) fn end(mut self, good: bool) -> Ending {
        let accepted = self.accepted.take().unwrap_or_default();
        let mut vms = Vec::with_capacity(accepted.vms.len());
        let mut bad = Vec::new();
        for vm in accepted.vms {
            let reached = self.reached.remove(&vm.vm);
            let stage = reached.as_ref().map_or(Stage::Unspecified, StageReached::stage);
            if !is_good(stage) {
                let line = reached.as_ref().map(stage_line);
                bad.push(line.unwrap_or_else(|| format!("{}: nothing was heard of it", vm.vm)));
            }
            vms.push(deployed(vm, reached));
        }
        Ending { deployment: json::Deployment { deployment: accepted.deployment_id, good, vms }, bad }
    }
}

fn deployed(vm: DeployedVm, reached: Option<StageReached>) -> json::DeployedVm {
    let (stage, node, detail) = match reached {
        Some(reached) => (Some(stage(reached.stage)), json::some(reached.node), json::some(reached.detail)),
        None => (None, None, None),
    };
    json::DeployedVm { vm: vm.vm, generation: vm.generation, change: change(vm.change), stage, node, detail }
}

fn is_final(reached: &StageReached) -> bool {
    is_good(reached.stage()) || matches!(reached.stage(), Stage::Failed | Stage::Superseded)
}

fn is_good(stage: Stage) -> bool {
    matches!(stage, Stage::Healthy | Stage::Runs | Stage::Succeeded | Stage::Stopped)
}

/// What people call a derivation: `web` of `/nix/store/<32 digits>-web.drv`.
fn derivation_name(drv: &str) -> String {
    let name = drv.rsplit('/').next().and_then(|base| base.split_once('-'));
    one_line(name.map_or(drv, |(_, name)| name.trim_end_matches(".drv")))
}

/// A line of a build, marked with the name of its derivation.
fn build_log(notes: &mut Notes<'_>, log: &BuildLog) {
    let name = derivation_name(&log.drv);
    lines(&log.line).for_each(|line| notes.line(format_args!("{name}> {line}")));
}

fn accepted_line(DeployedVm { vm, generation, change: made }: &DeployedVm) -> String {
    match VmChange::try_from(*made) {
        Ok(VmChange::Unchanged) => format!("vm {vm}: unchanged (generation {generation})"),
        _ => format!("vm {vm}: generation {generation} ({})", change(*made)),
    }
}

fn stage_line(reached: &StageReached) -> String {
    let on = if reached.node.is_empty() { String::new() } else { format!(" on {}", reached.node) };
    let what = match reached.stage() {
        Stage::Checking => format!("running{on}, checking health"),
        _ => format!("{}{on}", stage(reached.stage)),
    };
    let why =
        if reached.detail.is_empty() { String::new() } else { format!(": {}", set_in(&reached.detail, 2)) };
    format!("{}: {what}{why}", reached.vm)
}
