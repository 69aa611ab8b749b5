//! Which host is chosen, and the reasons that are given: scripts in, tables out.

use std::fmt::Write as _;

use blixard_types::spec::{
    Constraint, ConstraintOperator, Hypervisor, LABEL_NODE, LABEL_VM, Strategy, Volume,
};
use blixard_types::spec::{Spec, VolumeKind};

use super::super::explain::explain;
use super::*;
use crate::fixture::vm;
use crate::state::{NodeFacts, SharedStorage, Terms};

/// Hosts with these facts, numbered from 1.
fn hosts(of: impl IntoIterator<Item = NodeFacts>) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[]);
    for (at, facts) in of.into_iter().enumerate() {
        let node = at as u64 + 1;
        cluster.ok(register(node, &[Role::Host]));
        cluster.ok(session(node, 1, facts));
    }
    cluster.arm();
    cluster
}

fn with_terms(memory_mib: u64, change: impl FnOnce(&mut Terms)) -> NodeFacts {
    let mut facts = facts(memory_mib);
    change(&mut facts.terms);
    facts
}

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A spec of 100 MiB, changed.
fn wants(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = spec(100);
    change(&mut spec);
    spec
}

/// Deploys these one after another and places each as planned.
fn place_each(cluster: &mut Cluster, vms: &[(&str, Spec)]) {
    for (name, spec) in vms {
        cluster.deploy(name, "a", spec.clone());
        for PlacementDecision { vm, node, epoch } in plan(&cluster.state, UnixMillis(0)).placements {
            cluster.ok(place(&vm.to_string(), node.0, epoch.0));
        }
    }
}

/// Where each vm is.
fn map(cluster: &Cluster) -> String {
    let at = |vm: &Vm| vm.run.host().map_or("-".to_owned(), |node| node.to_string());
    let each = cluster.state.vms.iter().map(|(id, vm)| format!("{}:{}", id.name(), at(vm)));
    each.collect::<Vec<_>>().join(" ")
}

fn told(cluster: &Cluster, name: &str) -> String {
    let explanation = explain(&cluster.state, &vm(name), UnixMillis(0)).unwrap();
    let mut out = format!("best {:?}\n", explanation.best.map(|node| node.0));
    for verdict in explanation.verdicts {
        let _ = match verdict.result {
            Ok(merit) => writeln!(out, "{}: {:?}, {} free", verdict.name, merit.points, merit.free_mib),
            Err(reason) => writeln!(out, "{}: {reason}", verdict.name),
        };
    }
    out
}

#[test]
fn terms_and_labels_of_a_host_are_kept() {
    let mut cluster = hosts([
        with_terms(1000, |terms| terms.hypervisors = [Hypervisor::Firecracker].into()),
        with_terms(1000, |terms| terms.tenants = ["shop".parse().unwrap()].into()),
        with_terms(1000, |terms| terms.labels = text(&[("zone", "b")])),
        with_terms(1000, |terms| terms.labels = text(&[("zone", "a"), ("old", "")])),
        with_terms(1000, |terms| terms.labels = text(&[("zone", "a")])),
        facts(1000),
    ]);
    let constraint = |label: &str, operator, values: &[&str]| Constraint {
        label: label.to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    cluster.deploy(
        "web",
        "a",
        wants(|spec| {
            spec.placement.constraints = vec![
                constraint("zone", ConstraintOperator::In, &["a", "c"]),
                constraint("old", ConstraintOperator::Absent, &[]),
                constraint(LABEL_NODE, ConstraintOperator::NotIn, &["n9"]),
            ];
        }),
    );
    insta::assert_snapshot!(told(&cluster, "web"), @"
    best Some(5)
    n5: Points { affinity: 0, anti_affinity: 0, history: 0 }, 1000 free
    n1: does not allow qemu
    n2: takes no vms of the tenant default
    n3: does not meet: label zone in [a, c]
    n4: does not meet: label old absent
    n6: does not meet: label zone in [a, c]
    ");
    cluster.deploy(
        "db",
        "a",
        wants(|spec| {
            spec.placement.constraints = vec![constraint(LABEL_NODE, ConstraintOperator::In, &["n6"])];
        }),
    );
    insta::assert_snapshot!(shown(&cluster.state, 0), @"
    default/db -> 6 at 1
    default/web -> 5 at 1
    ");
}

#[test]
fn room_is_counted_for_memory_processors_and_disk() {
    let mut small = facts(1000);
    small.disk_mib = Some(500);
    small.shared = [("data".parse().unwrap(), SharedStorage::Unfenced)].into();
    let mut cluster = hosts([with_terms(2000, |terms| terms.cpu_overcommit = 1), small]);
    let disk = |size_mib, kind| {
        wants(move |spec| {
            let (name, image) = ("data".to_owned(), "data.img".to_owned());
            spec.volumes = vec![Volume { name, image, size_mib, kind, fs_type: None, label: None }];
        })
    };
    place_each(&mut cluster, &[("a", wants(|spec| spec.resources.vcpus = 4))]);
    cluster.deploy("wide", "a", wants(|spec| spec.resources.vcpus = 65));
    cluster.deploy("large", "a", disk(501, VolumeKind::Ephemeral));
    cluster.deploy("fits", "a", disk(500, VolumeKind::Local));
    cluster.deploy("elsewhere", "a", disk(9000, VolumeKind::Shared));
    insta::assert_snapshot!(shown(&cluster.state, 0), @"
    default/elsewhere -> 2 at 1
    default/fits -> 2 at 1
    default/large: no host will do: n1: needs 1 vcpus, 0 free; n2: needs 501 MiB of disk, 0 free
    default/wide: no host will do: n1: needs 65 vcpus, 0 free; n2: needs 65 vcpus, 62 free
    ");
}

#[test]
fn vms_are_spread_or_packed_as_they_say() {
    let mut out = String::new();
    for strategy in [Strategy::Spread, Strategy::Binpack] {
        let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 300), (3, 1000)]);
        let of = || wants(|spec| spec.placement.strategy = strategy);
        let names = ["a", "b", "c", "d", "e", "f"];
        place_each(&mut cluster, &names.map(|name| (name, of())));
        let _ = writeln!(out, "{strategy:?}: {}", map(&cluster));
    }
    insta::assert_snapshot!(out, @"
    Spread: a:1 b:3 c:1 d:3 e:1 f:3
    Binpack: a:2 b:2 c:2 d:1 e:1 f:1
    ");
}

#[test]
fn vms_go_to_those_they_like_and_away_from_those_they_do_not() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 900), (3, 800)]);
    let replica = || {
        wants(|spec| {
            spec.labels = text(&[("app", "web")]);
            spec.placement.anti_affinity = text(&[("app", "web")]);
        })
    };
    let near = |label: &'static str, value: &'static str| {
        wants(move |spec| spec.placement.affinity = text(&[(label, value)]))
    };
    let apart = wants(|spec| spec.placement.anti_affinity = text(&[(LABEL_VM, "web-1")]));
    place_each(
        &mut cluster,
        &[
            ("web-1", replica()),
            ("web-2", replica()),
            ("web-3", replica()),
            ("web-4", replica()),
            ("near-3", near(LABEL_VM, "default/web-3")),
            ("near-any", near("app", "web")),
            ("near-none", near("app", "mail")),
            ("apart", apart),
        ],
    );
    insta::assert_snapshot!(map(&cluster), @"apart:2 near-3:3 near-any:1 near-none:2 web-1:1 web-2:2 web-3:3 web-4:1");
    insta::assert_snapshot!(told(&cluster, "web-2"), @"
    best Some(2)
    n2: Points { affinity: 0, anti_affinity: 0, history: 5 }, 700 free
    n3: Points { affinity: 0, anti_affinity: -10, history: 0 }, 600 free
    n1: Points { affinity: 0, anti_affinity: -20, history: 0 }, 700 free
    ");
}

#[test]
fn a_vm_comes_back_to_its_host_unless_it_has_failed_there() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 2000), (3, 1000)]);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    insta::assert_snapshot!(told(&cluster, "web"), @"
    best Some(1)
    n1: Points { affinity: 0, anti_affinity: 0, history: 5 }, 1000 free
    n2: Points { affinity: 0, anti_affinity: 0, history: 0 }, 2000 free
    n3: Points { affinity: 0, anti_affinity: 0, history: 0 }, 1000 free
    ");
    cluster.ok(place("web", 2, 2));
    cluster.ok(report(2, "web", 2, failed(1, "boom")));
    insta::assert_snapshot!(told(&cluster, "web"), @"
    best Some(1)
    n1: Points { affinity: 0, anti_affinity: 0, history: 0 }, 1000 free
    n3: Points { affinity: 0, anti_affinity: 0, history: 0 }, 1000 free
    n2: Points { affinity: 0, anti_affinity: 0, history: -50 }, 2000 free
    ");
    // With nowhere else to go it is tried there again.
    cluster.deploy("web", "a", spec(1500));
    cluster.ok(place("web", 2, 3));
    cluster.ok(report(2, "web", 3, failed(2, "boom")));
    insta::assert_snapshot!(told(&cluster, "web"), @"
    best Some(2)
    n2: Points { affinity: 0, anti_affinity: 0, history: -50 }, 2000 free
    n1: needs 1500 MiB of memory, 1000 free
    n3: needs 1500 MiB of memory, 1000 free
    ");
}

#[test]
fn of_many_hosts_some_are_named() {
    let hosts: Vec<(u64, u64)> = (1..=20).map(|node| (node, 50)).collect();
    let mut cluster = Cluster::with_hosts(&hosts);
    cluster.deploy("web", "a", spec(100));
    let text = shown(&cluster.state, 0);
    assert!(text.contains("n8: needs 100 MiB") && !text.contains("n9:"), "{text}");
    assert!(text.ends_with("; and 12 more\n"), "{text}");
    assert_eq!(explain(&cluster.state, &vm("web"), UnixMillis(0)).unwrap().verdicts.len(), 20);
}

#[test]
fn a_vm_that_fails_is_tried_on_every_host_before_it_comes_back_to_one() {
    let mut cluster = hosts([facts(1000), facts(900), facts(800)]);
    cluster.deploy("web", "a", spec(100));
    let mut tried = Vec::new();
    for epoch in 1..=4 {
        let later = UnixMillis(1_000_000_000);
        let placements = plan(&cluster.state, later).placements;
        let [PlacementDecision { node, .. }] = placements[..] else { panic!("{placements:?}") };
        cluster.ok(place("web", node.0, epoch));
        cluster.ok(report(node.0, "web", epoch, failed(1, "no")));
        tried.push(node.0);
    }
    assert_eq!(tried, [1, 2, 3, 1]);
    // Whoever asks again asks for a first try.
    cluster.ok(desired("web", Desired::Running));
    assert!(cluster.state.vms[&vm("web")].failed_on.is_empty());
}
