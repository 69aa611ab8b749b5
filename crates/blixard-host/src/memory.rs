//! What the agent remembers of its vms, and how an observation changes it.

use std::collections::BTreeMap;

use blixard_core::assignment::AssignmentSet;
use blixard_core::ports::BootMillis;
use blixard_core::ports::units::{ObservedUnit, UnitState};
use blixard_core::reconcile::{ActiveSpell, Checks, Started, VmMemory};
use blixard_types::VmId;

/// The memory of every vm that is granted, seen or worked on.
pub(crate) type Memories = BTreeMap<VmId, VmMemory>;

/// Takes an observation in: adopts units that run, and notices where a hypervisor was started again.
pub(crate) fn take_in(memories: &mut Memories, units: &BTreeMap<VmId, ObservedUnit>, now: BootMillis) {
    for (vm, unit) in units {
        let memory = memories.entry(vm.clone()).or_default();
        adopt(memory, unit, now);
        notice_spell(memory, unit, now);
    }
    for (vm, memory) in memories.iter_mut() {
        if !units.contains_key(vm) {
            memory.active = None;
            memory.checks = Checks::NotAsked;
        }
    }
}

fn adopt(memory: &mut VmMemory, unit: &ObservedUnit, now: BootMillis) {
    let Some((epoch, generation)) = unit.epoch.zip(unit.generation) else {
        return;
    };
    let known = |started: &Started| started.epoch == epoch && started.generation == generation;
    if !memory.running.as_ref().is_some_and(known) {
        memory.running = Some(Started { epoch, generation, at: now });
    }
}

fn notice_spell(memory: &mut VmMemory, unit: &ObservedUnit, now: BootMillis) {
    if unit.state != UnitState::Active {
        memory.active = None;
        memory.checks = Checks::NotAsked;
        return;
    }
    let (main_pid, restarts) = (unit.main_pid, unit.restarts);
    if memory.active.is_none_or(|spell| (spell.main_pid, spell.restarts) != (main_pid, restarts)) {
        memory.active = Some(ActiveSpell { main_pid, restarts, since: now });
        memory.checks = Checks::NotAsked;
    }
}

/// Forgets the vms that are neither granted nor seen nor worked on.
pub(crate) fn prune(memories: &mut Memories, granted: &AssignmentSet, units: &BTreeMap<VmId, ObservedUnit>) {
    memories.retain(|vm, memory| memory.is_busy() || units.contains_key(vm) || granted.speaks_of(vm));
}

#[cfg(test)]
mod tests {
    use blixard_types::{Epoch, GenerationNumber};

    use super::*;

    fn unit(restarts: u32, state: UnitState) -> ObservedUnit {
        ObservedUnit {
            vm: "web".parse().unwrap(),
            epoch: Some(Epoch(1)),
            generation: Some(GenerationNumber(1)),
            state,
            restarts,
            main_pid: Some(100 + restarts),
            environment: BTreeMap::new(),
        }
    }

    fn see(memories: &mut Memories, units: &[ObservedUnit], at: u64) {
        let units = units.iter().map(|unit| (unit.vm.clone(), unit.clone())).collect();
        take_in(memories, &units, BootMillis(at));
    }

    #[test]
    fn a_unit_found_running_is_adopted_with_the_time_it_was_found() {
        let mut memories = Memories::new();
        see(&mut memories, &[unit(0, UnitState::Active)], 10);
        see(&mut memories, &[unit(0, UnitState::Active)], 20);
        let memory = &memories[&"web".parse().unwrap()];
        assert_eq!(memory.running.unwrap().at, BootMillis(10));
        assert_eq!(memory.active.unwrap().since, BootMillis(10));
    }

    #[test]
    fn a_restart_of_the_hypervisor_begins_a_new_spell_and_asks_the_checks_anew() {
        let mut memories = Memories::new();
        see(&mut memories, &[unit(0, UnitState::Active)], 10);
        memories.get_mut(&"web".parse().unwrap()).unwrap().checks = Checks::Passed;
        see(&mut memories, &[unit(1, UnitState::Active)], 20);
        let memory = &memories[&"web".parse().unwrap()];
        assert_eq!(memory.active.unwrap().since, BootMillis(20));
        assert_eq!(memory.checks, Checks::NotAsked);
        assert_eq!(memory.running.unwrap().at, BootMillis(10), "it is still the same start");
    }

    #[test]
    fn a_unit_that_is_gone_is_remembered_as_started_but_not_as_active() {
        let mut memories = Memories::new();
        see(&mut memories, &[unit(0, UnitState::Active)], 10);
        see(&mut memories, &[], 20);
        let memory = &memories[&"web".parse().unwrap()];
        assert!(memory.running.is_some() && memory.active.is_none());
    }
}
