//! What the planner chooses hosts by, `apply` checks again: a planner may have looked before something changed.

use blixard_types::NodeId;
use blixard_types::spec::{Constraint, ConstraintOperator, Hypervisor, KvmUse};

use crate::apply::Rejection;
use crate::fixture::{Cluster, facts, place, session, spec, vm};
use crate::schedule;
use crate::state::NodeFacts;

/// A host whose planner has found a place for `web`, and whose daemon is then started with other facts.
fn replaced(change: impl FnOnce(&mut NodeFacts), wants: impl FnOnce(&mut blixard_types::Spec)) -> String {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut before = facts(1000);
    before.terms.labels.insert("zone".to_owned(), "a".to_owned());
    cluster.ok(session(1, 2, before.clone()));
    let mut spec = spec(100);
    wants(&mut spec);
    cluster.deploy("web", "web", spec);
    let planned = schedule::plan(&cluster.state, cluster.at).placements;
    assert_eq!(planned.len(), 1, "it had no place to begin with");
    change(&mut before);
    cluster.ok(session(1, 3, before));
    let command = place("web", planned[0].node.0, planned[0].epoch.0);
    let Err(Rejection::Unfit { vm: of, node, reason }) = cluster.apply(command) else {
        panic!("it was placed against the rules");
    };
    assert_eq!((of, node.as_str()), (vm("web"), "n1"));
    assert!(cluster.vm("web").run.host().is_none());
    assert_eq!(schedule::plan(&cluster.state, cluster.at).placements, [], "the planner disagrees with apply");
    reason.to_string()
}

fn in_zone_a(spec: &mut blixard_types::Spec) {
    let values = vec!["a".to_owned()];
    spec.placement.constraints =
        vec![Constraint { label: "zone".to_owned(), operator: ConstraintOperator::In, values }];
}

#[test]
fn no_race_places_a_vm_against_the_labels_of_a_host() {
    let reason = replaced(|facts| facts.terms.labels.clear(), in_zone_a);
    assert_eq!(reason, "does not meet: label zone in [a]");
}

#[test]
fn no_race_places_a_vm_of_a_tenant_that_a_host_does_not_take() {
    let reason = replaced(|facts| facts.terms.tenants = ["other".parse().unwrap()].into(), |_| {});
    assert_eq!(reason, "takes no vms of the tenant default");
}

#[test]
fn no_race_places_a_vm_under_a_hypervisor_that_a_host_does_not_allow() {
    let reason = replaced(|facts| facts.terms.hypervisors = [Hypervisor::Firecracker].into(), |_| {});
    assert_eq!(reason, "does not allow qemu");
}

#[test]
fn no_race_places_a_vm_on_another_platform_or_without_kvm() {
    let reason = replaced(|facts| facts.system = "aarch64-linux".to_owned(), |_| {});
    assert_eq!(reason, "is aarch64-linux, the vm is built for x86_64-linux");
    let reason = replaced(|facts| facts.kvm = false, |spec| spec.kvm = KvmUse::Required);
    assert_eq!(reason, "has no usable KVM, which the vm requires");
}

#[test]
fn a_new_generation_is_placed_by_what_it_asks_for_itself() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "web", spec(100));
    let mut choosy = spec(100);
    in_zone_a(&mut choosy);
    cluster.deploy("web", "web-2", choosy);
    let refused = cluster.apply(place("web", 1, 1)).unwrap_err();
    assert!(matches!(refused, Rejection::Unfit { .. }), "{refused}");
    assert_eq!(
        refused.to_string(),
        "vm default/web is not placed on n1, which does not meet: label zone in [a]"
    );
    assert!(cluster.state.nodes.contains_key(&NodeId(1)));
}
