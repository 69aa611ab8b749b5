//! Generations and specs.

use blixard_types::{GenerationNumber, NodeId, Revision};

use super::scene;
use crate::apply::Rejection;
use crate::command::{Command, DeployedVm, Outcome, VmChange};
use crate::fixture::{Cluster, definition, deploy, facts, place, report, running, session, spec, vm};
use crate::state::{Desired, GENERATIONS_KEPT, HealthStatus, Resource, Shortage, VmReport};

fn numbers(cluster: &Cluster, name: &str) -> Vec<u64> {
    cluster.vm(name).generations.keys().map(|number| number.0).collect()
}

/// What deploying one vm means for it: change and generation.
#[track_caller]
fn change(cluster: &mut Cluster, runner: &str, memory_mib: u64) -> (VmChange, u64) {
    match cluster.deploy("web", runner, spec(memory_mib)) {
        Outcome::Deployed { vms, revision } => {
            assert_eq!(revision, Revision(cluster.index));
            let [one] = vms.as_slice() else { panic!("{vms:?}") };
            (one.change, one.generation.0)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_generation_is_made_by_a_new_closure_or_a_new_spec_and_by_nothing_else() {
    let mut cluster = Cluster::with_hosts(&[]);
    assert_eq!(change(&mut cluster, "a", 100), (VmChange::Added, 1));
    assert_eq!(change(&mut cluster, "a", 100), (VmChange::Unchanged, 1));
    assert_eq!(change(&mut cluster, "b", 100), (VmChange::Changed, 2));
    assert_eq!(change(&mut cluster, "b", 200), (VmChange::Changed, 3));
    assert_eq!(change(&mut cluster, "b", 200), (VmChange::Unchanged, 3));
    // Back to what it was once: another change, under a number of its own.
    assert_eq!(change(&mut cluster, "a", 100), (VmChange::Changed, 4));
    assert_eq!(numbers(&cluster, "web"), [1, 2, 3, 4]);
    assert_eq!(cluster.vm("web").target, GenerationNumber(4));
}

#[test]
fn an_unchanged_vm_gets_no_event_and_a_changed_one_does() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(100));
    let events = cluster.state.events.clone();
    cluster.deploy("web", "a", spec(100));
    assert_eq!(cluster.state.events, events);
    cluster.deploy("web", "b", spec(100));
    assert_ne!(cluster.state.events, events);
}

#[test]
fn outcomes_are_in_the_order_of_the_command() {
    let mut cluster = scene();
    let outcome = cluster.ok(deploy(vec![
        definition("zeta", "a", spec(1)),
        definition("idle", "a", spec(100)),
        definition("alpha", "a", spec(1)),
        definition("placed", "b", spec(100)),
    ]));
    let Outcome::Deployed { vms, .. } = outcome else { panic!("{outcome:?}") };
    let deployed = |name, generation, change| DeployedVm {
        vm: vm(name),
        generation: GenerationNumber(generation),
        change,
    };
    assert_eq!(
        vms,
        [
            deployed("zeta", 1, VmChange::Added),
            deployed("idle", 1, VmChange::Unchanged),
            deployed("alpha", 1, VmChange::Added),
            deployed("placed", 2, VmChange::Changed),
        ]
    );
}

#[test]
fn the_newest_ten_generations_are_kept_with_the_specs_they_use() {
    let mut cluster = Cluster::with_hosts(&[]);
    for round in 1..=13 {
        cluster.deploy("web", "a", spec(100 + round));
    }
    assert_eq!(numbers(&cluster, "web"), (4..=13).collect::<Vec<_>>());
    assert_eq!(cluster.state.specs.len(), GENERATIONS_KEPT);
    let web = cluster.vm("web");
    for generation in web.generations.values() {
        let kept = &cluster.state.specs[&generation.spec];
        assert_eq!(kept.digest().unwrap(), generation.spec);
    }
    assert_eq!(cluster.state.target_spec(web).unwrap().resources.memory_mib, 113);
}

#[test]
fn equal_specs_are_stored_once_and_forgotten_with_the_last_vm_that_uses_them() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(100));
    cluster.deploy("db", "a", spec(100));
    assert_eq!(cluster.state.specs.len(), 1);
    cluster.ok(crate::fixture::delete("web"));
    assert_eq!(cluster.state.specs.len(), 1);
    cluster.ok(crate::fixture::delete("db"));
    assert_eq!(cluster.state.specs.len(), 0);
}

#[test]
fn a_deployment_never_starts_a_vm_that_someone_has_stopped() {
    let mut cluster = scene();
    for runner in ["a", "b"] {
        cluster.deploy("halted", runner, spec(100));
        assert_eq!(cluster.vm("halted").desired, Desired::Stopped);
    }
    assert_eq!(cluster.vm("halted").target, GenerationNumber(2));
}

#[test]
fn a_deployment_moves_nothing_and_ends_no_epoch() {
    let mut cluster = scene();
    cluster.ok(report(1, "placed", 1, running(1, HealthStatus::Healthy)));
    let before = cluster.vm("placed").run.clone();
    cluster.deploy("placed", "b", spec(50));
    assert_eq!(cluster.vm("placed").run, before);
}

#[test]
fn a_placed_vm_does_not_grow_beyond_its_host() {
    // Of 1000 MiB on host 1, `placed` and `going` have 100 each.
    let grown = |memory_mib| deploy(vec![definition("placed", "b", spec(memory_mib))]);
    let refused = |needed| {
        let shortage = Shortage { resource: Resource::MemoryMib, needed, free: 900 };
        let (vm, node) = (vm("placed"), NodeId(1));
        Err(Rejection::NoRoom { vm, node, shortage })
    };
    let mut cluster = scene();
    assert_eq!(cluster.apply(grown(901)), refused(901));
    assert_eq!(cluster.vm("placed").target, GenerationNumber(1));
    cluster.ok(grown(900));
    assert_eq!(cluster.state.usage(NodeId(1)).memory_mib, 1000);
    cluster.ok(report(1, "placed", 1, VmReport::Stopped));
    cluster.ok(grown(5000));
}

#[test]
fn two_vms_of_one_deployment_do_not_grow_into_the_same_room() {
    let mut cluster = scene();
    cluster.ok(place("idle", 1, 1));
    let both = |a, b| deploy(vec![definition("placed", "b", spec(a)), definition("idle", "b", spec(b))]);
    assert!(matches!(cluster.apply(both(500, 500)), Err(Rejection::NoRoom { .. })));
    cluster.ok(both(500, 400));
    // What one gives up, another may have, in whichever order they are named.
    cluster.ok(both(800, 100));
    cluster.ok(both(100, 800));
}

#[test]
fn a_host_that_has_shrunk_does_not_keep_its_vms_from_being_deployed() {
    let mut cluster = scene();
    cluster.ok(session(1, 2, facts(50)));
    cluster.deploy("placed", "b", spec(100));
    cluster.deploy("placed", "c", spec(90));
    let grown: Command = deploy(vec![definition("placed", "d", spec(91))]);
    assert!(matches!(cluster.apply(grown), Err(Rejection::NoRoom { .. })));
}
