//! What holds of volumes after every sequence of commands, checked against what was said yes to so far.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::{Spec, VolumeKind};
use blixard_types::{Epoch, NodeId, VmId, VolumeId};
use proptest::prelude::*;

use crate::apply::Rejection;
use crate::assignment::{Index, Intent, assignments_of};
use crate::command::{Command, VolumeCommand};
use crate::fixture::{
    Cluster, back, daemon, definition, delete, deploy, desired, discard, facts, forget_volumes, lost, place,
    running, session, spec, vm, volume,
};
use crate::schedule::{Planner, plan};
use crate::state::{ClusterState, Desired, HealthStatus, NodeFacts, Run, Vm, VmReport, VolumeFate};

const VMS: [&str; 2] = ["db", "a/db"];
const VOLUMES: [&str; 2] = ["data", "more"];
const HOSTS: u64 = 3;
const DISK_MIB: u64 = 100;

#[derive(Debug, Clone)]
enum Op {
    /// Volumes by name, size and kind.
    Deploy {
        vm: usize,
        volumes: Vec<(usize, u64, VolumeKind)>,
    },
    /// At its next epoch.
    Place {
        vm: usize,
        node: u64,
    },
    /// Deploys all volumes that there are of a vm.
    DeployAll {
        vm: usize,
    },
    /// A vm that does not run and should, at its next epoch.
    PlaceWaiting {
        node: u64,
    },
    /// Has a volume deleted of a vm that is stopped, and starts it before that is done.
    Hurry {
        vm: usize,
        volume: usize,
        node: u64,
    },
    /// Whatever the scheduler says.
    Follow,
    /// The host says what becomes of its epoch.
    Report {
        vm: usize,
        report: VmReport,
    },
    Desired {
        vm: usize,
        desired: Desired,
    },
    DeleteVm {
        vm: usize,
        files: bool,
    },
    DeleteVolume {
        vm: usize,
        volume: usize,
    },
    Forget {
        vm: usize,
        volume: Option<usize>,
    },
    /// Hosts do what they are told with volumes and files.
    Clean {
        node: u64,
    },
    Lost {
        node: u64,
    },
    Back {
        node: u64,
    },
}

fn ops() -> impl Strategy<Value = Op> {
    let (vm, name, node) = (|| 0..VMS.len(), || 0..VOLUMES.len(), || 1..=HOSTS);
    let kind = prop_oneof![4 => Just(VolumeKind::Local), 1 => Just(VolumeKind::Ephemeral)];
    let volumes = prop::collection::vec((name(), 10..60_u64, kind), 0..3);
    let said = prop_oneof![
        3 => (1..5_u64).prop_map(|generation| running(generation, HealthStatus::Healthy)),
        3 => Just(VmReport::Stopped),
        1 => (1..5_u64).prop_map(|generation| crate::fixture::failed(generation, "no")),
    ];
    let wanted = prop_oneof![2 => Just(Desired::Running), 1 => Just(Desired::Stopped)];
    prop_oneof![
        10 => (vm(), volumes).prop_map(|(vm, volumes)| Op::Deploy { vm, volumes }),
        4 => (vm(), node()).prop_map(|(vm, node)| Op::Place { vm, node }),
        2 => vm().prop_map(|vm| Op::DeployAll { vm }),
        3 => node().prop_map(|node| Op::PlaceWaiting { node }),
        2 => (vm(), name(), node()).prop_map(|(vm, volume, node)| Op::Hurry { vm, volume, node }),
        4 => Just(Op::Follow),
        6 => (vm(), said).prop_map(|(vm, report)| Op::Report { vm, report }),
        3 => (vm(), wanted).prop_map(|(vm, desired)| Op::Desired { vm, desired }),
        1 => (vm(), any::<bool>()).prop_map(|(vm, files)| Op::DeleteVm { vm, files }),
        4 => (vm(), name()).prop_map(|(vm, volume)| Op::DeleteVolume { vm, volume }),
        1 => (vm(), prop::option::of(name())).prop_map(|(vm, volume)| Op::Forget { vm, volume }),
        4 => node().prop_map(|node| Op::Clean { node }),
        2 => node().prop_map(|node| Op::Lost { node }),
        3 => node().prop_map(|node| Op::Back { node }),
    ]
}

fn wants(volumes: &[(usize, u64, VolumeKind)]) -> Spec {
    let mut spec = spec(1);
    let named: BTreeMap<_, _> = volumes.iter().map(|&(name, size, kind)| (name, (size, kind))).collect();
    spec.volumes = named.into_iter().map(|(name, (size, kind))| volume(VOLUMES[name], size, kind)).collect();
    spec
}

/// The commands that an op means in this state.
fn commands(op: &Op, state: &ClusterState) -> Vec<Command> {
    match op {
        Op::Deploy { vm, volumes } => {
            let runner = ["a", "b", "c"][volumes.len()];
            vec![deploy(vec![definition(VMS[*vm], runner, wants(volumes))])]
        }
        Op::DeployAll { vm } => {
            let all: Vec<_> = (0..VOLUMES.len()).map(|name| (name, 60, VolumeKind::Local)).collect();
            vec![deploy(vec![definition(VMS[*vm], "all", wants(&all))])]
        }
        Op::PlaceWaiting { node } => {
            let waits = |(_, vm): &(&VmId, &Vm)| vm.wanted() && vm.run.host().is_none();
            let waiting = state.vms.iter().filter(waits);
            waiting.map(|(id, vm)| place(&id.to_string(), *node, vm.last_epoch.next().0)).collect()
        }
        Op::Hurry { vm: at, volume, node } => {
            let volume = format!("{}:{}", VMS[*at], VOLUMES[*volume]).parse().unwrap();
            let Some(last) = state.vms.get(&vm(VMS[*at])).map(|vm| vm.last_epoch.next().0) else {
                return vec![];
            };
            vec![
                desired(VMS[*at], Desired::Stopped),
                Command::Volume(VolumeCommand::Delete { volume, life: None }),
                desired(VMS[*at], Desired::Running),
                place(VMS[*at], *node, last),
            ]
        }
        Op::Place { vm: at, node } => {
            let last = state.vms.get(&vm(VMS[*at])).map(|vm| vm.last_epoch.next().0);
            last.map(|epoch| place(VMS[*at], *node, epoch)).into_iter().collect()
        }
        Op::Follow => {
            let placements = plan(state, crate::ports::UnixMillis(u64::MAX)).placements;
            placements.into_iter().map(|one| place(&one.vm.to_string(), one.node.0, one.epoch.0)).collect()
        }
        Op::Report { vm: at, report } => match state.vms.get(&vm(VMS[*at])).map(|vm| &vm.run) {
            Some(Run::Placed { node, epoch, .. }) => {
                vec![report_of(*node, VMS[*at], *epoch, report.clone())]
            }
            _ => vec![],
        },
        Op::Desired { vm, desired: wanted } => vec![desired(VMS[*vm], *wanted)],
        Op::DeleteVm { vm, files: true } => vec![discard(VMS[*vm])],
        Op::DeleteVm { vm, files: false } => vec![delete(VMS[*vm])],
        Op::DeleteVolume { vm, volume } => {
            let volume = format!("{}:{}", VMS[*vm], VOLUMES[*volume]).parse().unwrap();
            vec![Command::Volume(VolumeCommand::Delete { volume, life: None })]
        }
        Op::Forget { vm, volume } => vec![forget_volumes(VMS[*vm], volume.map(|name| VOLUMES[name]))],
        Op::Clean { node } => {
            let told = assignments_of(state, NodeId(*node));
            let gone = told.deleted_volumes.iter().flat_map(|(vm, volumes)| {
                volumes.iter().map(move |(name, life)| {
                    let report = VmReport::VolumeGone { volume: name.clone() };
                    crate::fixture::report_of(
                        NodeId(*node).0,
                        daemon(*node, 1),
                        &vm.to_string(),
                        life.0,
                        report,
                    )
                })
            });
            let files = told.discarded.iter().map(|(vm, epoch)| {
                crate::fixture::report_of(
                    *node,
                    daemon(*node, 1),
                    &vm.to_string(),
                    epoch.0,
                    VmReport::FilesGone,
                )
            });
            gone.chain(files).collect()
        }
        Op::Lost { node } => vec![lost(*node)],
        Op::Back { node } => vec![back(*node)],
    }
}

fn report_of(node: NodeId, name: &str, epoch: Epoch, report: VmReport) -> Command {
    crate::fixture::report_of(node.0, daemon(node.0, 1), name, epoch.0, report)
}

fn hosts() -> Cluster {
    let all: Vec<_> = (1..=HOSTS).map(|node| (node, 1000)).collect();
    let mut cluster = Cluster::with_hosts(&all);
    for node in 1..=HOSTS {
        cluster.ok(session(node, 1, NodeFacts { disk_mib: Some(DISK_MIB), ..facts(1000) }));
    }
    cluster
}

/// What the accepted commands say of volumes: those that were made, where, and how large.
#[derive(Default)]
struct Witness {
    held: BTreeMap<VolumeId, (NodeId, Epoch, u64)>,
    /// A life is lived once.
    lives: BTreeSet<(VolumeId, Epoch)>,
}

impl Witness {
    /// A record is there until somebody has said that it may go, stays on its host, and does not shrink.
    fn accepted(&mut self, command: &Command, before: &ClusterState, after: &ClusterState) {
        let records = after.volumes.iter().flat_map(|(vm, of)| of.iter().map(move |one| (vm, one)));
        let now: BTreeMap<VolumeId, _> = records
            .map(|(vm, (name, one))| {
                (VolumeId { vm: vm.clone(), name: name.clone() }, (one.node, one.life, one.size_mib))
            })
            .collect();
        for (id, &(node, life, size)) in &self.held {
            match now.get(id) {
                Some(&(on, lives, has)) => {
                    assert_eq!((on, lives), (node, life), "{id} has moved");
                    assert!(has >= size, "{id} has shrunk from {size} to {has}");
                }
                None => assert!(may_go(command, id, before), "{id} is gone after {command:?}"),
            }
        }
        for (id, &(node, life, _)) in now.iter().filter(|(id, _)| !self.held.contains_key(id)) {
            let placed = matches!(command, Command::Place { vm, node: on, epoch }
                if *vm == id.vm && *on == node && *epoch == life);
            assert!(placed, "{id} was made by {command:?}");
            assert!(self.lives.insert((id.clone(), life)), "{id} has lived at {life} before");
        }
        self.held = now;
    }
}

fn may_go(command: &Command, id: &VolumeId, before: &ClusterState) -> bool {
    match command {
        Command::Volume(VolumeCommand::Forget { vm, .. })
        | Command::Report { vm, report: VmReport::FilesGone, .. } => *vm == id.vm,
        Command::Report { vm, report: VmReport::VolumeGone { volume }, .. } => {
            let told = before.volumes[&id.vm][&id.name].fate == VolumeFate::Delete;
            *vm == id.vm && *volume == id.name && told
        }
        _ => false,
    }
}

/// A vm is told to run only where all of its volumes are; disks hold what is on them.
fn check(state: &ClusterState) {
    for node in (1..=HOSTS).map(NodeId) {
        for (vm, assignment) in assignments_of(state, node).assignments {
            let Intent::Run(run) = assignment.intent else { continue };
            for (name, _) in run.spec.volumes_of(VolumeKind::Local) {
                let record = state.volumes.get(&vm).and_then(|of| of.get(&name));
                assert_eq!(record.map(|record| record.node), Some(node), "{vm} runs away from {name}");
                assert_eq!(record.map(|record| record.fate), Some(VolumeFate::Keep), "{vm} runs with {name}");
                assert!(run.volumes.contains_key(&name), "{vm} does not know {name}");
            }
        }
        let used = state.usage(node).disk_mib;
        assert!(used <= DISK_MIB, "{node} is overbooked: {used} MiB");
    }
    for (id, vm) in &state.vms {
        let Some(spec) = state.target_spec(vm).filter(|_| vm.wanted()) else { continue };
        let on: BTreeSet<NodeId> =
            state.local_volumes(id, spec).filter_map(|(_, _, record)| Some(record?.node)).collect();
        assert!(on.len() <= 1, "{id} is torn apart: {on:?}");
    }
}

/// What the scheduler says is what is accepted, whether it has followed or looks anew.
fn check_plan(planner: &mut Planner, cluster: &Cluster) {
    let now = crate::ports::UnixMillis(u64::MAX);
    let fresh = plan(&cluster.state, now);
    assert_eq!(planner.plan(&cluster.state, now), fresh);
    let mut then = cluster.clone();
    for one in fresh.placements {
        let placed = then.apply(place(&one.vm.to_string(), one.node.0, one.epoch.0));
        assert!(placed.is_ok(), "{}: {placed:?}", one.vm);
    }
}

fn run(ops: &[Op]) -> BTreeMap<&'static str, u32> {
    let (mut cluster, mut witness, mut planner) = (hosts(), Witness::default(), Planner::default());
    let (mut index, mut reached) = (Index::default(), BTreeMap::<&str, u32>::new());
    for op in ops {
        for command in commands(op, &cluster.state) {
            let before = cluster.state.clone();
            let outcome = cluster.apply(command.clone());
            if outcome.is_ok() {
                witness.accepted(&command, &before, &cluster.state);
            }
            *reached.entry(kind(&command, outcome.as_ref().err())).or_default() += 1;
            check(&cluster.state);
        }
        check_plan(&mut planner, &cluster);
        index.follow(&cluster.state);
        for node in (1..=HOSTS).map(NodeId) {
            assert_eq!(index.assignments(&cluster.state, node), assignments_of(&cluster.state, node));
        }
    }
    reached
}

fn kind(command: &Command, refused: Option<&Rejection>) -> &'static str {
    use crate::apply::VolumeRejection as Refused;
    match (command, refused) {
        (Command::Deploy(_), Some(Rejection::Volume(Refused::Shrinks { .. }))) => "shrink refused",
        (Command::Deploy(_), Some(Rejection::Volume(Refused::Apart { .. }))) => "apart refused",
        (Command::Deploy(_), Some(Rejection::NoRoom { .. })) => "no room to grow",
        (Command::Place { .. }, Some(Rejection::Volume(Refused::Elsewhere { .. }))) => "elsewhere refused",
        (Command::Place { .. }, Some(Rejection::Volume(Refused::Going { .. }))) => "going refused",
        (Command::Place { .. }, Some(Rejection::NoRoom { .. })) => "no room",
        (Command::Place { epoch, .. }, None) if epoch.0 > 1 => "placed again",
        (Command::Volume(VolumeCommand::Forget { .. }), None) => "forgotten",
        (Command::Report { report: VmReport::VolumeGone { .. }, .. }, None) => "gone",
        (Command::Report { report: VmReport::FilesGone, .. }, None) => "files gone",
        _ => "other",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_sequence_of_commands_moves_shrinks_or_loses_a_volume(ops in prop::collection::vec(ops(), 1..80)) {
        run(&ops);
    }
}

#[test]
fn the_sequences_reach_what_they_are_about() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::<&str, u32>::new();
    for _ in 0..400 {
        let ops = prop::collection::vec(ops(), 80).new_tree(&mut runner).unwrap().current();
        for (what, times) in run(&ops) {
            *reached.entry(what).or_default() += times;
        }
    }
    assert_eq!(reached.len(), 11, "{reached:?}");
    assert!(reached.values().all(|count| *count >= 5), "{reached:?}");
}
