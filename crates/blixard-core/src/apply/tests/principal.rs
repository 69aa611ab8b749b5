//! Who asked is kept with what was asked, and decides nothing.

use blixard_types::{GenerationNumber, NodeId};

use crate::command::Command;
use crate::fixture::{Cluster, desired, place, report, running, spec, vm};
use crate::principal::Principal;
use crate::state::{ClusterState, Desired, EventKind, HealthStatus};

const ALICE: Principal = Principal::User { node: NodeId(1), uid: 1000 };
const ROOT: Principal = Principal::User { node: NodeId(2), uid: 0 };

/// `web` was deployed by one user and stopped by another; in between the cluster placed it.
fn asked() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.by = Some(ALICE);
    cluster.deploy("web", "a", spec(100));
    cluster.by = None;
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster.by = Some(ROOT);
    cluster.ok(desired("web", Desired::Stopped));
    cluster.by = None;
    cluster
}

#[test]
fn generations_and_events_say_who_asked_for_them_and_what_the_cluster_does_nobody_has_asked_for() {
    let cluster = asked();
    assert_eq!(cluster.vm("web").generations[&GenerationNumber(1)].by, Some(ALICE));
    let by = |kind: fn(&EventKind) -> bool| {
        let found = cluster.state.events.iter().find(|event| kind(&event.kind)).unwrap();
        found.by
    };
    assert_eq!(by(|kind| matches!(kind, EventKind::GenerationAdded { .. })), Some(ALICE));
    assert_eq!(by(|kind| matches!(kind, EventKind::DesiredSet { .. })), Some(ROOT));
    assert_eq!(by(|kind| matches!(kind, EventKind::Placed { .. })), None);
    assert_eq!(by(|kind| matches!(kind, EventKind::PhaseReached { .. })), None);
}

#[test]
fn what_was_asked_of_a_vm_last_is_that_vms_and_the_newest() {
    let mut cluster = asked();
    let last =
        |cluster: &Cluster, name: &str| cluster.state.events.last_asked(&vm(name)).and_then(|event| event.by);
    assert_eq!(last(&cluster, "web"), Some(ROOT));
    cluster.by = Some(ALICE);
    cluster.deploy("db", "a", spec(100));
    assert_eq!((last(&cluster, "web"), last(&cluster, "db")), (Some(ROOT), Some(ALICE)));
    cluster.ok(Command::RestartVm { vm: vm("db") });
    assert_eq!(last(&cluster, "mail"), None);
}

#[test]
fn two_users_who_ask_for_the_same_get_the_same() {
    let [one, other] = [ALICE, ROOT].map(|by| {
        let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
        cluster.by = Some(by);
        cluster.deploy("web", "a", spec(100));
        serde_json::to_value(&cluster.state).unwrap()
    });
    assert_ne!(one, other);
    assert_eq!(without_names(one), without_names(other));
}

#[test]
fn a_state_from_before_names_were_kept_is_read() {
    let cluster = asked();
    let old = without_names(serde_json::to_value(&cluster.state).unwrap());
    let read: ClusterState = serde_json::from_value(old).unwrap();
    assert!(read.events.iter().all(|event| event.by.is_none()));
    assert_eq!(read.vms.len(), cluster.state.vms.len());
}

/// A checkpoint without who asked.
fn without_names(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(fields) => {
            fields.remove("by");
            for field in fields.values_mut() {
                *field = without_names(field.take());
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                *item = without_names(item.take());
            }
        }
        _ => {}
    }
    value
}

#[test]
fn a_person_is_called_by_the_names_that_nodes_have() {
    let cluster = asked();
    let name = cluster.state.nodes[&NodeId(1)].name.clone();
    assert_eq!(ALICE.named(&cluster.state), format!("uid 1000 on {name}"));
    assert_eq!(Principal::User { node: NodeId(9), uid: 0 }.named(&cluster.state), "root on node 9");
    assert_eq!(Principal::TokenHolder.named(&cluster.state), "a machine with a token");
}
