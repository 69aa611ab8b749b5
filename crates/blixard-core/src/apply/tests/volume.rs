//! Local volumes: where they are, what they weigh, and who may take them away.

use blixard_types::spec::{Spec, VolumeKind};
use blixard_types::{Epoch, NodeId, VolumeId};

use crate::apply::{MembershipRejection, Rejection, VolumeRejection};
use crate::assignment::{Intent, VolumeLife, assignments_of};
use crate::command::{Command, MembershipCommand, Outcome, VolumeCommand};
use crate::fixture::{
    Cluster, definition, delete, delete_volume, deploy, desired, discard, facts, forget_volumes, lost, place,
    report, running, session, spec, vm, volume, volume_gone,
};
use crate::schedule::explain::explain;
use crate::schedule::{RefusalReason, WaitingOn, plan};
use crate::state::{
    Desired, HealthStatus, Made, NodeFacts, Resource, SharedStorage, Shortage, Usage, VmReport, VolumeFate,
};

fn with(volumes: &[(&str, u64, VolumeKind)]) -> Spec {
    let mut spec = spec(100);
    spec.volumes = volumes.iter().map(|&(name, size_mib, kind)| volume(name, size_mib, kind)).collect();
    spec
}

fn local(size_mib: u64) -> Spec {
    with(&[("data", size_mib, VolumeKind::Local)])
}

fn disk(mib: u64) -> NodeFacts {
    NodeFacts { disk_mib: Some(mib), ..facts(1000) }
}

/// Hosts 1 and 2 with 1000 MiB of disk each.
fn hosts() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    for node in [1, 2] {
        cluster.ok(session(node, 1, disk(1000)));
    }
    cluster
}

/// A vm that runs on host 1 with a volume of 100 MiB.
fn scene() -> Cluster {
    let mut cluster = hosts();
    cluster.deploy("db", "a", local(100));
    cluster.ok(place("db", 1, 1));
    cluster.ok(report(1, "db", 1, running(1, HealthStatus::Healthy)));
    cluster
}

fn id(text: &str) -> VolumeId {
    text.parse().unwrap()
}

fn stop(cluster: &mut Cluster, epoch: u64) {
    cluster.ok(desired("db", Desired::Stopped));
    cluster.ok(report(1, "db", epoch, VmReport::Stopped));
}

#[track_caller]
fn record(cluster: &Cluster, text: &str) -> crate::state::Volume {
    let id = id(text);
    cluster.state.volumes[&id.vm][&id.name].clone()
}

#[track_caller]
fn refused(outcome: Result<Outcome, Rejection>) -> VolumeRejection {
    match outcome {
        Err(Rejection::Volume(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_placement_promises_a_volume_and_the_first_run_makes_it() {
    let mut cluster = hosts();
    cluster.deploy("db", "a", local(100));
    assert!(cluster.state.volumes.is_empty(), "a deployment makes none");
    cluster.ok(place("db", 2, 1));
    let promised = record(&cluster, "db:data");
    assert_eq!((promised.node, promised.life, promised.made), (NodeId(2), Epoch(1), Made::Promised));
    let granted = assignments_of(&cluster.state, NodeId(2));
    let Intent::Run(run) = &granted.assignments[&vm("db")].intent else { panic!("{granted:?}") };
    let life = VolumeLife { epoch: Epoch(1), made: Made::Promised };
    assert_eq!(run.volumes, [("data".parse().unwrap(), life)].into());
    cluster.ok(report(2, "db", 1, running(1, HealthStatus::Pending)));
    assert_eq!(record(&cluster, "db:data").made, Made::Made);
    // Later placements find it as it is.
    cluster.ok(report(2, "db", 1, VmReport::Stopped));
    cluster.ok(place("db", 2, 2));
    assert_eq!(record(&cluster, "db:data").life, Epoch(1));
}

#[test]
fn a_vm_is_placed_where_its_volume_is_and_waits_when_that_host_is_lost() {
    let mut cluster = scene();
    cluster.ok(lost(1));
    let elsewhere = refused(cluster.apply(place("db", 2, 2)));
    assert_eq!(
        elsewhere.to_string(),
        "volume default/db:data is on node 1, so vm default/db is not placed on node 2"
    );
    let waiting = plan(&cluster.state, cluster.at).waiting.remove(&vm("db")).unwrap();
    assert_eq!(
        waiting.to_string(),
        "its volume data is on n1, which is lost: it waits for that host to be back; \
         `blixard volume forget default/db:data` gives it up"
    );
    let explained = explain(&cluster.state, &vm("db"), cluster.at).unwrap();
    assert_eq!(explained.best, None);
    let other = explained.verdicts.iter().find(|verdict| verdict.node == NodeId(2)).unwrap();
    let host = "n1".to_owned();
    let reason = RefusalReason::VolumeElsewhere { volume: "data".parse().unwrap(), host };
    assert_eq!(other.result, Err(reason));
    // Back: it runs there again, with what it had.
    cluster.ok(crate::fixture::back(1));
    assert_eq!(plan(&cluster.state, cluster.at).placements[0].node, NodeId(1));
    cluster.ok(place("db", 1, 2));
    assert_eq!(record(&cluster, "db:data").life, Epoch(1));
}

#[test]
fn a_volume_is_not_gone_by_a_word_that_nobody_has_asked_for() {
    let mut cluster = scene();
    let before = record(&cluster, "db:data");
    let epoch = Epoch(1);
    let refusal = Rejection::OtherEpoch { vm: vm("db"), node: NodeId(1), epoch };
    assert_eq!(cluster.apply(volume_gone(1, "db", "data", 1)), Err(refusal.clone()));
    stop(&mut cluster, 1);
    assert_eq!(cluster.apply(volume_gone(1, "db", "data", 1)), Err(refusal));
    assert_eq!(record(&cluster, "db:data"), before);
}

#[test]
fn a_volume_is_not_deleted_while_its_vm_is_being_stopped() {
    let mut cluster = scene();
    cluster.ok(desired("db", Desired::Stopped));
    let in_use = refused(cluster.apply(delete_volume("db:data")));
    assert!(matches!(in_use, VolumeRejection::InUse { placed: true, .. }), "{in_use}");
    assert_eq!(record(&cluster, "db:data").fate, VolumeFate::Keep);
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    cluster.ok(delete_volume("db:data"));
}

#[test]
fn the_host_of_a_volume_is_told_that_it_goes_when_its_vm_is_long_gone() {
    let mut cluster = scene();
    stop(&mut cluster, 1);
    cluster.ok(delete("db"));
    cluster.ok(delete_volume("db:data"));
    let going = assignments_of(&cluster.state, NodeId(1)).deleted_volumes;
    assert_eq!(going[&vm("db")].values().collect::<Vec<_>>(), [&Epoch(1)]);
}

#[test]
fn a_volume_that_is_given_up_lets_its_vm_run_elsewhere_with_one_of_another_life() {
    let mut cluster = scene();
    let in_use = refused(cluster.apply(forget_volumes("db", None)));
    assert!(matches!(in_use, VolumeRejection::InUse { placed: true, .. }), "{in_use}");
    cluster.ok(lost(1));
    cluster.ok(forget_volumes("db", None));
    assert_eq!(plan(&cluster.state, cluster.at).placements[0].node, NodeId(2));
    cluster.ok(place("db", 2, 2));
    let new = record(&cluster, "db:data");
    assert_eq!((new.node, new.life, new.made), (NodeId(2), Epoch(2), Made::Promised));
    let none = refused(cluster.apply(forget_volumes("db", Some("other"))));
    assert_eq!(none, VolumeRejection::Unknown { id: id("db:other") });
    cluster.deploy("web", "a", spec(1));
    let none = refused(cluster.apply(forget_volumes("web", None)));
    assert_eq!(none, VolumeRejection::None { vm: vm("web") });
    let unknown = cluster.apply(forget_volumes("nobody", None));
    assert_eq!(unknown, Err(Rejection::UnknownVm { vm: vm("nobody") }));
}

#[test]
fn a_volume_grows_with_its_spec_and_never_shrinks() {
    let mut cluster = scene();
    cluster.deploy("db", "b", local(300));
    assert_eq!(record(&cluster, "db:data").size_mib, 300);
    let shrinks = refused(cluster.apply(deploy(vec![definition("db", "c", local(299))])));
    assert_eq!(shrinks.to_string(), "volume default/db:data has 300 MiB and is not shrunk to 299 MiB");
    let too_large = cluster.apply(deploy(vec![definition("db", "c", local(1001))]));
    let shortage = Shortage { resource: Resource::DiskMib, needed: 1001, free: 1000 };
    assert_eq!(too_large, Err(Rejection::NoRoom { vm: vm("db"), node: NodeId(1), shortage }));
    // Also when nothing runs, and when nobody defines the vm any more.
    stop(&mut cluster, 1);
    cluster.ok(delete("db"));
    assert!(!cluster.state.vms.contains_key(&vm("db")));
    refused(cluster.apply(deploy(vec![definition("db", "c", local(299))])));
    let too_large = cluster.apply(deploy(vec![definition("db", "c", local(1001))]));
    assert!(matches!(too_large, Err(Rejection::NoRoom { .. })), "{too_large:?}");
}

#[test]
fn what_is_in_a_volume_is_not_lost_to_another_kind_image_or_name() {
    let mut cluster = scene();
    let ephemeral = with(&[("data", 100, VolumeKind::Ephemeral)]);
    let refusal = refused(cluster.apply(deploy(vec![definition("db", "b", ephemeral)])));
    assert_eq!(refusal, VolumeRejection::IsLocal { id: id("db:data") });
    let mut moved = local(100);
    moved.volumes[0].image = "elsewhere.img".to_owned();
    let refusal = refused(cluster.apply(deploy(vec![definition("db", "b", moved)])));
    assert!(matches!(refusal, VolumeRejection::OtherImage { .. }), "{refusal}");
    let mut renamed = local(100);
    renamed.volumes[0].name = "other".to_owned();
    let refusal = refused(cluster.apply(deploy(vec![definition("db", "b", renamed)])));
    let owner = id("db:data");
    assert_eq!(refusal, VolumeRejection::ImageTaken { image: "data.img".to_owned(), owner });
}

#[test]
fn a_vm_that_gets_another_volume_is_placed_anew_for_it_to_be_made() {
    let mut cluster = scene();
    let both = [("data", 100, VolumeKind::Local), ("more", 50, VolumeKind::Local)];
    cluster.deploy("db", "b", with(&both));
    let told =
        |cluster: &Cluster| assignments_of(&cluster.state, NodeId(1)).assignments[&vm("db")].intent.clone();
    assert_eq!(told(&cluster), Intent::Stop);
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    assert!(refused(cluster.apply(place("db", 2, 2))).to_string().contains("is on node 1"));
    cluster.ok(place("db", 1, 2));
    assert!(matches!(told(&cluster), Intent::Run(_)));
    assert_eq!((record(&cluster, "db:data").life, record(&cluster, "db:more").life), (Epoch(1), Epoch(2)));
}

#[test]
fn a_vm_that_wants_a_volume_of_another_host_again_goes_back_there() {
    let mut cluster = scene();
    cluster.deploy("db", "b", spec(100));
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    cluster.ok(place("db", 2, 2));
    cluster.deploy("db", "a", local(100));
    let granted = assignments_of(&cluster.state, NodeId(2));
    assert_eq!(granted.assignments[&vm("db")].intent, Intent::Stop);
    cluster.ok(report(2, "db", 2, VmReport::Stopped));
    assert_eq!(plan(&cluster.state, cluster.at).placements[0].node, NodeId(1));
    // With one volume here and one there it could be nowhere.
    cluster.ok(place("db", 1, 3));
    cluster.deploy("db", "b", spec(100));
    cluster.ok(report(1, "db", 3, VmReport::Stopped));
    cluster.deploy("db", "c", with(&[("more", 50, VolumeKind::Local)]));
    cluster.ok(place("db", 2, 4));
    let both = [("data", 100, VolumeKind::Local), ("more", 50, VolumeKind::Local)];
    let apart = refused(cluster.apply(deploy(vec![definition("db", "d", with(&both))])));
    assert!(matches!(apart, VolumeRejection::Apart { .. }), "{apart}");
}

#[test]
fn volumes_take_room_wherever_their_vm_is() {
    let mut cluster = scene();
    let both = [("data", 100, VolumeKind::Local), ("scratch", 50, VolumeKind::Ephemeral)];
    cluster.deploy("db", "b", with(&both));
    let used = |cluster: &Cluster| cluster.state.usage(NodeId(1)).disk_mib;
    assert_eq!(used(&cluster), 150);
    stop(&mut cluster, 1);
    assert_eq!(used(&cluster), 100, "the ephemeral one goes with the placement");
    cluster.deploy("big", "a", with(&[("data", 901, VolumeKind::Local)]));
    let full = cluster.apply(place("big", 1, 1));
    let shortage = Shortage { resource: Resource::DiskMib, needed: 901, free: 900 };
    assert_eq!(full, Err(Rejection::NoRoom { vm: vm("big"), node: NodeId(1), shortage }));
    assert_eq!(plan(&cluster.state, cluster.at).placements[0].node, NodeId(2));
    // What is counted there already is not needed once more.
    cluster.deploy("other", "a", with(&[("data", 880, VolumeKind::Local)]));
    cluster.ok(place("other", 1, 1));
    assert_eq!(cluster.state.needs(&vm("db"), &local(100)), Usage { disk_mib: 0, ..Usage::of(&spec(100)) });
}

#[test]
fn a_volume_is_deleted_by_its_host_and_not_while_its_vm_should_run() {
    let mut cluster = scene();
    let in_use = refused(cluster.apply(delete_volume("db:data")));
    assert_eq!(in_use.to_string(), "volume default/db:data is in use: vm default/db is on a host");
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    let wanted = refused(cluster.apply(delete_volume("db:data")));
    assert_eq!(wanted.to_string(), "volume default/db:data is in use: vm default/db should run");
    cluster.ok(desired("db", Desired::Stopped));
    cluster.ok(delete_volume("db:data"));
    assert_eq!(cluster.ok(delete_volume("db:data")), Outcome::Unchanged);
    assert_eq!(record(&cluster, "db:data").fate, VolumeFate::Delete);
    let going = assignments_of(&cluster.state, NodeId(1)).deleted_volumes;
    assert_eq!(going, [(vm("db"), [("data".parse().unwrap(), Epoch(1))].into())].into());
    // As long as it is not gone the vm waits, and runs nowhere else.
    cluster.ok(desired("db", Desired::Running));
    for node in [1, 2] {
        assert!(matches!(refused(cluster.apply(place("db", node, 2))), VolumeRejection::Going { .. }));
    }
    let waiting = plan(&cluster.state, cluster.at).waiting.remove(&vm("db")).unwrap();
    let reason = RefusalReason::VolumeGoing { volume: "data".parse().unwrap() };
    assert!(matches!(&waiting, WaitingOn::Volume { reason: found, .. } if *found == reason), "{waiting}");
    let cure =
        "if that host does not come back, `blixard volume forget default/db:data` does not wait for it";
    assert!(waiting.to_string().ends_with(cure), "{waiting}");
    for (node, life) in [(2, 1), (1, 2)] {
        assert!(cluster.apply(volume_gone(node, "db", "data", life)).is_err());
    }
    cluster.ok(volume_gone(1, "db", "data", 1));
    assert!(cluster.state.volumes.is_empty());
    cluster.ok(place("db", 2, 2));
    assert_eq!(
        refused(cluster.apply(delete_volume("db:none"))),
        VolumeRejection::Unknown { id: id("db:none") }
    );
}

#[test]
fn volumes_outlive_their_vm_unless_it_is_deleted_with_them() {
    let mut cluster = scene();
    cluster.ok(delete("db"));
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    assert_eq!(record(&cluster, "db:data").made, Made::Made);
    let leaving = Command::Membership(MembershipCommand::RemoveNode { node: NodeId(1) });
    cluster.ok(crate::fixture::register(3, &[crate::state::Role::Server]));
    let name = "n1".parse().unwrap();
    let kept = MembershipRejection::HasVolumes { name, volumes: 1 };
    assert_eq!(cluster.apply(leaving), Err(kept.into()));
    // Who comes back under that name finds it.
    cluster.deploy("db", "b", local(100));
    refused(cluster.apply(place("db", 2, 2)));
    cluster.ok(place("db", 1, 2));
    cluster.ok(discard("db"));
    cluster.ok(report(1, "db", 2, VmReport::Stopped));
    cluster.ok(report(1, "db", 2, VmReport::FilesGone));
    assert!(cluster.state.volumes.is_empty());
}

#[test]
fn volumes_that_a_deleted_vm_has_elsewhere_are_removed_there() {
    let mut cluster = scene();
    cluster.deploy("db", "b", spec(100));
    cluster.ok(report(1, "db", 1, VmReport::Stopped));
    cluster.ok(place("db", 2, 2));
    cluster.ok(discard("db"));
    cluster.ok(report(2, "db", 2, VmReport::Stopped));
    cluster.ok(report(2, "db", 2, VmReport::FilesGone));
    assert_eq!(record(&cluster, "db:data").fate, VolumeFate::Delete);
    cluster.ok(volume_gone(1, "db", "data", 1));
    assert!(cluster.state.volumes.is_empty());
}

#[test]
fn a_shared_volume_is_only_where_a_host_has_it_and_waits_for_a_lost_writer() {
    let shared = |storage| NodeFacts { shared: [("media".parse().unwrap(), storage)].into(), ..facts(1000) };
    let wants = with(&[("media", 1, VolumeKind::Shared)]);
    for (storage, waits) in [(SharedStorage::Unfenced, true), (SharedStorage::Fenced, false)] {
        let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000), (3, 1000)]);
        for node in [1, 2] {
            cluster.ok(session(node, 1, shared(storage)));
        }
        cluster.deploy("db", "a", wants.clone());
        let none = refused(cluster.apply(place("db", 3, 1)));
        assert_eq!(none, VolumeRejection::NotShared { node: NodeId(3), name: "media".parse().unwrap() });
        cluster.ok(place("db", 1, 1));
        assert!(cluster.state.volumes.is_empty(), "it is not ours");
        cluster.ok(lost(1));
        if waits {
            let written = refused(cluster.apply(place("db", 2, 2)));
            assert!(matches!(written, VolumeRejection::MayBeWritten { .. }), "{written}");
            let waiting = plan(&cluster.state, cluster.at).waiting.remove(&vm("db")).unwrap();
            assert!(waiting.to_string().contains("`blixard volume forget default/db:media`"), "{waiting}");
            let kept = refused(cluster.apply(delete("db")));
            assert!(matches!(kept, VolumeRejection::MayBeWritten { .. }), "{kept}");
            cluster.ok(forget_volumes("db", Some("media")));
        }
        assert_eq!(plan(&cluster.state, cluster.at).placements[0].node, NodeId(2));
        cluster.ok(place("db", 2, 2));
    }
}

#[test]
fn a_new_volume_beside_others_has_to_fit_on_their_host() {
    let mut cluster = scene();
    cluster.deploy("other", "a", with(&[("data", 800, VolumeKind::Local)]));
    cluster.ok(place("other", 1, 1));
    let more = |mib| with(&[("data", 100, VolumeKind::Local), ("logs", mib, VolumeKind::Local)]);
    let before = cluster.state.vms.clone();
    for placed in [true, false] {
        let refused = cluster.apply(deploy(vec![definition("db", "b", more(101))]));
        let shortage = Shortage { resource: Resource::DiskMib, needed: 201, free: 200 };
        assert_eq!(refused, Err(Rejection::NoRoom { vm: vm("db"), node: NodeId(1), shortage }), "{placed}");
        if placed {
            assert_eq!(cluster.state.vms, before);
            stop(&mut cluster, 1);
        }
    }
    cluster.deploy("db", "b", more(100));
    assert_eq!(plan(&cluster.state, cluster.at).placements.len(), 0, "it is stopped");
}

#[test]
fn a_deletion_is_of_the_volume_that_was_looked_at_and_of_none_that_came_after_it() {
    let mut cluster = scene();
    stop(&mut cluster, 1);
    let delete =
        |life| Command::Volume(VolumeCommand::Delete { volume: id("db:data"), life: Some(Epoch(life)) });
    assert_eq!(refused(cluster.apply(delete(2))), VolumeRejection::Unknown { id: id("db:data") });
    assert_eq!(record(&cluster, "db:data").fate, VolumeFate::Keep);
    cluster.ok(delete(1));
    assert_eq!(record(&cluster, "db:data").fate, VolumeFate::Delete);
}
