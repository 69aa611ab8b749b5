use blixard_types::Spec;

use super::*;
use crate::fixture::{
    Cluster, SOURCE, SYSTEM, desired, place, report, running, spec, starting, store_path, vm,
};
use crate::state::HealthStatus;

fn admitted(name: &str, runner: &str, spec: Spec) -> AdmittedVm {
    let (drv, out) = (store_path(&format!("{runner}.drv")), store_path(runner));
    AdmittedVm { vm: vm(name), drv, out, system: SYSTEM.to_owned(), spec }
}

fn previewed(cluster: &Cluster, source: &str, vms: Vec<AdmittedVm>) -> Result<Vec<VmPreview>, Rejection> {
    let before = cluster.state.clone();
    let source = source.parse().unwrap();
    let seen = preview(&cluster.state, &source, TakeOver::Refuse, vms, UnixMillis(0));
    assert_eq!(cluster.state, before);
    seen
}

/// One line for each vm.
#[track_caller]
fn check(cluster: &Cluster, vms: Vec<AdmittedVm>, expected: &[&str]) {
    let line = |seen: VmPreview| {
        let before = seen.before.map_or("-".to_owned(), |number| number.to_string());
        format!("{} {:?} {before}>{} {:?}", seen.vm, seen.change, seen.after, seen.fate)
    };
    let lines: Vec<String> = previewed(cluster, SOURCE, vms).unwrap().into_iter().map(line).collect();
    assert_eq!(lines, expected);
}

/// A host of 1000 MiB with `web`, generation 1 of the runner `a`, in health.
fn with_web() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, starting(1)));
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster
}

#[test]
fn what_is_the_same_stays_and_what_is_not_restarts() {
    let cluster = with_web();
    check(&cluster, vec![admitted("web", "a", spec(100))], &["default/web Unchanged 1>1 Stays(NodeId(1))"]);
    check(&cluster, vec![admitted("web", "b", spec(100))], &["default/web Changed 1>2 Restarts(NodeId(1))"]);
    check(&cluster, vec![admitted("web", "a", spec(200))], &["default/web Changed 1>2 Restarts(NodeId(1))"]);
}

#[test]
fn a_new_vm_is_placed_or_waits_and_says_for_what() {
    let vms = vec![admitted("db", "a", spec(500)), admitted("huge", "a", spec(5000))];
    let seen = previewed(&with_web(), SOURCE, vms).unwrap();
    assert_eq!((seen[0].before, seen[0].change), (None, VmChange::Added));
    assert_eq!(seen[0].fate, Fate::Placed(NodeId(1)));
    let Fate::Waits(Some(waiting)) = &seen[1].fate else { panic!("{seen:?}") };
    assert!(waiting.to_string().contains("needs 5000 MiB of memory"), "{waiting}");
}

#[test]
fn what_somebody_has_stopped_stays_so() {
    let mut cluster = with_web();
    cluster.ok(desired("web", Desired::Stopped));
    check(&cluster, vec![admitted("web", "b", spec(100))], &["default/web Changed 1>2 Stopped"]);
}

#[test]
fn what_a_deployment_is_refused_for_is_told_before_it() {
    let cluster = with_web();
    let of_other = previewed(&cluster, "path:/other", vec![admitted("web", "a", spec(100))]);
    assert!(matches!(of_other, Err(Rejection::OtherSource { .. })), "{of_other:?}");
    let grown = previewed(&cluster, SOURCE, vec![admitted("web", "a", spec(5000))]);
    assert!(matches!(grown, Err(Rejection::NoRoom { .. })), "{grown:?}");
}
