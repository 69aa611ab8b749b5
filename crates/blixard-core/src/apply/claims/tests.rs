use blixard_types::spec::{Interface, InterfaceKind};

use super::*;
use crate::apply::Rejection;
use crate::fixture::{
    Cluster, definition, delete, deploy, desired, place, report, running, spec, starting, vm,
};
use crate::state::{Desired, GENERATIONS_KEPT, HealthStatus, VmReport};

/// A spec with a tap of this name and address.
fn with_tap(id: &str, mac: &str) -> Spec {
    let mut spec = spec(10);
    let (id, mac) = (id.to_owned(), mac.to_owned());
    spec.interfaces = vec![Interface { kind: InterfaceKind::Tap, id, mac, bridge: None, multi_queue: false }];
    spec
}

fn mac(last: u8) -> String {
    format!("02:00:00:00:00:{last:02x}")
}

fn claimed(vm_name: &str, claim: &str, owner: &str) -> Rejection {
    Rejection::Claimed { vm: vm(vm_name), claim: claim.to_owned(), owner: vm(owner) }
}

/// Two hosts; `web` is placed on the first and has the tap `vm-a`.
fn cluster() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "r1", with_tap("vm-a", &mac(1)));
    cluster.ok(place("web", 1, 1));
    cluster
}

#[track_caller]
fn refused(cluster: &mut Cluster, name: &str, spec: Spec, why: &Rejection) {
    let before = cluster.state.vms.clone();
    assert_eq!(cluster.apply(deploy(vec![definition(name, "r2", spec)])), Err(why.clone()));
    assert_eq!(cluster.state.vms, before);
}

#[test]
fn what_one_vm_claims_no_other_gets_on_any_host() {
    let mut cluster = cluster();
    refused(&mut cluster, "db", with_tap("vm-a", &mac(2)), &claimed("db", "the interface vm-a", "web"));
    let shouted = mac(1).to_uppercase();
    let why = claimed("db", "the hardware address 02:00:00:00:00:01", "web");
    refused(&mut cluster, "db", with_tap("vm-b", &shouted), &why);
    cluster.deploy("db", "r2", with_tap("vm-b", &mac(2)));
}

#[test]
fn two_vms_of_one_deployment_do_not_share_a_claim() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut specs = [spec(10), spec(10)];
    for spec in &mut specs {
        spec.vsock_cid = Some(7);
    }
    let [one, other] = specs;
    let both = deploy(vec![definition("db", "r1", one), definition("web", "r2", other)]);
    assert_eq!(cluster.apply(both), Err(claimed("web", "the vsock context id 7", "db")));
    assert!(cluster.state.vms.is_empty());
}

#[test]
fn an_interface_inside_of_the_hypervisor_claims_nothing() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let user = || {
        let mut spec = with_tap("qemu", &mac(1));
        spec.interfaces[0].kind = InterfaceKind::User;
        spec
    };
    cluster.deploy("web", "r1", user());
    cluster.deploy("db", "r1", user());
}

#[test]
fn a_vm_keeps_the_claims_of_what_it_runs_until_that_has_ended() {
    let mut cluster = cluster();
    cluster.ok(report(1, "web", 1, starting(1)));
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster.deploy("web", "r2", with_tap("vm-b", &mac(2)));
    let taken = claimed("db", "the interface vm-a", "web");
    refused(&mut cluster, "db", with_tap("vm-a", &mac(3)), &taken);
    // It may return to what it had.
    cluster.deploy("web", "r3", with_tap("vm-a", &mac(1)));
    cluster.deploy("web", "r4", with_tap("vm-b", &mac(2)));
    // Its host has replaced the run.
    cluster.ok(report(1, "web", 1, starting(4)));
    cluster.deploy("db", "r2", with_tap("vm-a", &mac(3)));
}

#[test]
fn a_stopped_vm_keeps_its_claims_and_a_deleted_one_until_its_run_has_ended() {
    let mut cluster = cluster();
    cluster.ok(report(1, "web", 1, starting(1)));
    cluster.ok(desired("web", Desired::Stopped));
    let taken = claimed("db", "the interface vm-a", "web");
    refused(&mut cluster, "db", with_tap("vm-a", &mac(3)), &taken);
    cluster.ok(delete("web"));
    refused(&mut cluster, "db", with_tap("vm-a", &mac(3)), &taken);
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    cluster.deploy("db", "r2", with_tap("vm-a", &mac(3)));
}

#[test]
fn a_generation_that_runs_is_not_forgotten_however_many_follow() {
    let mut cluster = cluster();
    cluster.ok(report(1, "web", 1, starting(1)));
    for number in 0..2 * GENERATIONS_KEPT {
        cluster.deploy("web", &format!("next-{number}"), with_tap("vm-b", &mac(2)));
    }
    assert_eq!(cluster.vm("web").generations.len(), GENERATIONS_KEPT);
    let taken = claimed("db", "the interface vm-a", "web");
    refused(&mut cluster, "db", with_tap("vm-a", &mac(3)), &taken);
}
