//! Remembered evaluations and the specs they share.

use blixard_types::Sha256Hash;

use crate::command::{Command, Outcome, RememberEvaluation};
use crate::fixture::{Cluster, delete, spec, store_path};
use crate::state::{Evaluation, EvaluationKey, RememberedVm};

fn key(name: &str) -> EvaluationKey {
    EvaluationKey(Sha256Hash::of(name.as_bytes()))
}

/// An evaluation that gave one vm with a spec of this much memory.
fn remember(name: &str, memory_mib: u64) -> Command {
    let vm = RememberedVm {
        attribute: "web".to_owned(),
        drv: store_path("web.drv"),
        out: store_path("web"),
        system: "x86_64-linux".to_owned(),
        spec: spec(memory_mib).digest().unwrap(),
    };
    Command::RememberEvaluation(RememberEvaluation { key: key(name), vms: vec![vm] })
}

fn recalled<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Evaluation> {
    cluster.state.evaluations.get(key(name))
}

#[test]
fn an_evaluation_is_remembered_once_and_without_an_event() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(100));
    let events = cluster.state.events.clone();
    assert!(matches!(cluster.ok(remember("flake", 100)), Outcome::Changed { .. }));
    let remembered = recalled(&cluster, "flake").unwrap();
    assert_eq!(remembered.vms[0].attribute, "web");
    let text = spec(100).to_canonical_json().unwrap();
    assert!(remembered.bytes > text.len(), "a shared spec counts, too: {}", remembered.bytes);
    assert_eq!(cluster.ok(remember("flake", 100)), Outcome::Unchanged);
    assert_eq!(cluster.state.events, events);
}

#[test]
fn an_evaluation_whose_specs_have_gone_is_not_remembered() {
    let mut cluster = Cluster::with_hosts(&[]);
    assert_eq!(cluster.ok(remember("flake", 100)), Outcome::Unchanged);
    assert_eq!(recalled(&cluster, "flake"), None);
}

#[test]
fn a_spec_stays_while_an_evaluation_refers_to_it_and_goes_with_the_last() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(remember("flake", 100));
    cluster.ok(delete("web"));
    let digest = spec(100).digest().unwrap();
    assert!(cluster.state.vms.is_empty() && cluster.state.specs.contains_key(&digest));

    cluster.deploy("web", "b", spec(200));
    cluster.ok(remember("flake", 200));
    assert!(!cluster.state.specs.contains_key(&digest), "nothing refers to it any more");
}

#[test]
fn a_state_from_before_there_were_evaluations_is_read() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(100));
    let mut json = serde_json::to_value(&cluster.state).unwrap();
    json.as_object_mut().unwrap().remove("evaluations").unwrap();
    let state: crate::state::ClusterState = serde_json::from_value(json).unwrap();
    assert_eq!(state, cluster.state);
}
