//! Deleting a vm with its files: its host has the last word.

use blixard_types::{Epoch, NodeId};

use super::scene;
use crate::apply::Rejection;
use crate::assignment::assignments_of;
use crate::command::Outcome;
use crate::fixture::{Cluster, delete, discard, place, report, spec, vm};
use crate::state::VmReport;

/// A vm that has run on host 1 and has stopped.
fn stopped() -> Cluster {
    let mut cluster = scene();
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(crate::fixture::desired("web", crate::state::Desired::Stopped));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    cluster
}

fn discarded_on(cluster: &Cluster, node: u64) -> Vec<(String, Epoch)> {
    let set = assignments_of(&cluster.state, NodeId(node));
    set.discarded.into_iter().map(|(vm, epoch)| (vm.to_string(), epoch)).collect()
}

fn is_there(cluster: &Cluster) -> bool {
    cluster.state.vms.contains_key(&vm("web"))
}

#[test]
fn a_vm_that_goes_with_its_files_is_forgotten_when_its_host_has_removed_them() {
    let mut cluster = stopped();
    cluster.ok(discard("web"));
    assert!(is_there(&cluster));
    assert_eq!(discarded_on(&cluster, 1), [("default/web".to_owned(), Epoch(1))]);
    assert_eq!(discarded_on(&cluster, 2), []);
    cluster.ok(report(1, "web", 1, VmReport::FilesGone));
    assert!(!is_there(&cluster));
}

#[test]
fn files_are_not_removed_while_the_vm_is_on_its_host() {
    let mut cluster = scene();
    cluster.ok(discard("placed"));
    assert_eq!(discarded_on(&cluster, 1), []);
    let early = Rejection::OtherEpoch { vm: vm("placed"), node: NodeId(1), epoch: Epoch(1) };
    assert_eq!(cluster.apply(report(1, "placed", 1, VmReport::FilesGone)), Err(early));
    cluster.ok(report(1, "placed", 1, VmReport::Stopped));
    assert_eq!(discarded_on(&cluster, 1).len(), 1);
    cluster.ok(report(1, "placed", 1, VmReport::FilesGone));
    assert!(!cluster.state.vms.contains_key(&vm("placed")));
}

#[test]
fn only_the_host_that_has_the_files_says_that_they_are_gone_and_only_when_it_was_asked() {
    let mut cluster = stopped();
    let refused =
        |node, epoch| Err(Rejection::OtherEpoch { vm: vm("web"), node: NodeId(node), epoch: Epoch(epoch) });
    assert_eq!(cluster.apply(report(1, "web", 1, VmReport::FilesGone)), refused(1, 1));
    cluster.ok(discard("web"));
    assert_eq!(cluster.apply(report(2, "web", 1, VmReport::FilesGone)), refused(2, 1));
    assert_eq!(cluster.apply(report(1, "web", 0, VmReport::FilesGone)), refused(1, 0));
    assert!(is_there(&cluster));
}

#[test]
fn a_vm_that_has_never_run_has_no_files_to_wait_for() {
    let mut cluster = scene();
    cluster.ok(discard("idle"));
    assert!(!cluster.state.vms.contains_key(&vm("idle")));
}

#[test]
fn a_deletion_may_be_extended_to_the_files_but_not_be_taken_back() {
    let mut cluster = scene();
    cluster.ok(delete("placed"));
    cluster.ok(discard("placed"));
    assert_eq!(cluster.apply(delete("placed")), Ok(Outcome::Unchanged));
    cluster.ok(report(1, "placed", 1, VmReport::Stopped));
    assert_eq!(discarded_on(&cluster, 1).len(), 1);
}
