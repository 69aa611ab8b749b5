//! What holds after every sequence of commands, checked against what was said yes to so far.
//!
//! The commands come from small domains, so that they collide; half of them are aimed (the next epoch,
//! the daemon in charge), so that sequences get somewhere.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{CertificateSerial, DaemonId, Epoch, GenerationNumber, NodeId, Sha256Hash, VmId};
use proptest::prelude::*;

use crate::apply::Rejection;
use crate::command::{AdmitNode, Command, MembershipCommand, Outcome, TakeOver, VmChange};
use crate::fixture::{
    Cluster, daemon, definition, delete, deploy, desired, discard, facts, failed, place, report_of, restart,
    running, session, spec, starting, vm,
};
use crate::state::{
    ClusterState, Departure, Desired, EVENTS_KEPT, EventKind, GENERATIONS_KEPT, HealthStatus, Node,
    PeerStanding, Role, Run, VmReport,
};

const VMS: [&str; 3] = ["web", "db", "a/web"];
const MEMORY_MIB: u64 = 1000;

#[derive(Debug, Clone)]
enum Op {
    /// Forgets a node that is to go and runs nothing.
    ForgetLeaving,
    Raw(Box<Command>),
    /// Places a vm at its next epoch.
    PlaceNext {
        vm: usize,
        node: u64,
    },
    /// The daemon in charge reports on the epoch that the vm has.
    ReportCurrent {
        vm: usize,
        report: VmReport,
    },
    /// It says whether the generation that it should run is healthy.
    Judge {
        vm: usize,
        health: HealthStatus,
    },
    /// The command before, as another call.
    Repeat,
    /// The call before, proposed again.
    Duplicate,
}

fn reports() -> impl Strategy<Value = VmReport> {
    let generation = 1..4_u64;
    prop_oneof![
        generation.clone().prop_map(starting),
        generation.clone().prop_map(|generation| running(generation, HealthStatus::Pending)),
        generation.clone().prop_map(|generation| running(generation, HealthStatus::Healthy)),
        Just(VmReport::Stopped),
        Just(VmReport::FilesGone),
        generation.prop_map(|generation| failed(generation, "boom")),
    ]
}

fn unhealthy() -> HealthStatus {
    HealthStatus::Unhealthy { reason: "no answer".to_owned() }
}

fn deployments() -> impl Strategy<Value = Command> {
    let one = (0..VMS.len(), 0..3_usize, 1..11_u64);
    let runners = ["a", "b", "c"];
    (prop::collection::vec(one, 0..3), any::<bool>(), 0..5_u8).prop_map(move |(vms, take_over, source)| {
        let vms = vms
            .into_iter()
            .map(|(vm, runner, memory)| definition(VMS[vm], runners[runner], spec(memory * 100)));
        let Command::Deploy(mut command) = deploy(vms.collect()) else { unreachable!() };
        if source == 0 {
            command.source = "git+https://example.org/others".parse().unwrap();
        }
        if take_over {
            command.take_over = TakeOver::Allow;
        }
        Command::Deploy(command)
    })
}

/// Two tokens, two machines and two names that race for them; the nodes that exist, and some to come.
fn memberships() -> impl Strategy<Value = Command> {
    let secret = || (0..2_u8).prop_map(|secret| Sha256Hash::of(&[secret]));
    let roles = || {
        let host = [Role::Server, Role::Host];
        prop_oneof![Just([Role::Server].into()), Just(host.into()), Just([Role::Builder].into())]
    };
    let node = || (1..6_u64).prop_map(NodeId);
    let address = || "n:1".parse().unwrap();
    prop_oneof![
        1 => Just(adopt()),
        1 => node().prop_map(move |node| MembershipCommand::SetAddress { node, address: address() }),
        4 => (secret(), roles(), 0..50_u64).prop_map(
            |(token, roles, ttl_ms)| MembershipCommand::CreateToken { token, roles, ttl_ms }
        ),
        6 => (secret(), secret(), 3..5_u64, roles()).prop_map(move |(token, key, name, roles)| {
            let (name, address) = (format!("n{name}").parse().unwrap(), Some(address()));
            MembershipCommand::AdmitNode(AdmitNode { token, key, name, roles, address })
        }),
        2 => node().prop_map(|node| {
            MembershipCommand::CertifyNode { node, shown: Some(CertificateSerial(node.0)) }
        }),
        4 => node().prop_map(|node| MembershipCommand::RemoveNode { node }),
        5 => node().prop_map(|node| MembershipCommand::ForgetNode { node }),
    ]
    .prop_map(Command::Membership)
}

fn ops() -> impl Strategy<Value = Op> {
    let name = || (0..VMS.len()).prop_map(|vm| VMS[vm]);
    let wanted = prop_oneof![Just(Desired::Running), Just(Desired::Stopped)];
    let raw = prop_oneof![
        8 => deployments(),
        2 => (name(), 1..4_u64, 0..5_u64).prop_map(|(vm, node, epoch)| place(vm, node, epoch)),
        4 => (1..4_u64, 1..3_u64, 1..4_u64, name(), 0..5_u64, reports()).prop_map(
            |(node, of, start, vm, epoch, said)| report_of(node, daemon(of, start), vm, epoch, said)
        ),
        2 => (1..4_u64, 1..4_u64).prop_map(|(node, start)| session(node, start, facts(MEMORY_MIB))),
        4 => (name(), wanted).prop_map(|(vm, wanted)| desired(vm, wanted)),
        1 => name().prop_map(delete),
        1 => name().prop_map(discard),
        1 => name().prop_map(restart),
        1 => (name(), 0..5_u64).prop_map(|(name, epoch)| {
            Command::MoveVm { vm: vm(name), epoch: Epoch(epoch) }
        }),
        12 => memberships(),
    ];
    prop_oneof![
        8 => raw.prop_map(|command| Op::Raw(Box::new(command))),
        4 => (0..VMS.len(), 1..3_u64).prop_map(|(vm, node)| Op::PlaceNext { vm, node }),
        4 => (0..VMS.len(), reports()).prop_map(|(vm, report)| Op::ReportCurrent { vm, report }),
        2 => (0..VMS.len(), any::<bool>()).prop_map(|(vm, well)| {
            Op::Judge { vm, health: if well { HealthStatus::Healthy } else { unhealthy() } }
        }),
        1 => Just(Op::ForgetLeaving),
        1 => Just(Op::Repeat),
        1 => Just(Op::Duplicate),
    ]
}

/// The command that an op means in this state.
fn command(op: &Op, state: &ClusterState, before: Option<&Command>) -> Option<Command> {
    match op {
        Op::Raw(command) => Some((**command).clone()),
        Op::ForgetLeaving => {
            let empty = |id: &NodeId| state.vms.values().all(|vm| vm.run.host() != Some(*id));
            let leaving = |(id, node): &(&NodeId, &Node)| node.departure != Departure::Stays && empty(id);
            let (&node, _) = state.nodes.iter().find(leaving)?;
            Some(Command::Membership(MembershipCommand::ForgetNode { node }))
        }
        Op::PlaceNext { vm: at, node } => {
            let epoch = state.vms.get(&vm(VMS[*at]))?.last_epoch.next();
            Some(place(VMS[*at], *node, epoch.0))
        }
        Op::ReportCurrent { vm: at, report } => report_current(*at, report.clone(), state),
        Op::Judge { vm: at, health } => {
            let target = state.vms.get(&vm(VMS[*at]))?.target;
            report_current(*at, running(target.0, health.clone()), state)
        }
        Op::Repeat | Op::Duplicate => before.cloned(),
    }
}

/// What the daemon in charge says of a vm that is placed.
fn report_current(at: usize, report: VmReport, state: &ClusterState) -> Option<Command> {
    let Run::Placed { node, epoch, .. } = state.vms.get(&vm(VMS[at]))?.run else {
        return None;
    };
    let daemon = state.nodes[&node].session.as_ref()?.daemon;
    Some(report_of(node.0, daemon, VMS[at], epoch.0, report))
}

/// What the accepted commands, and nothing else, say must be true.
#[derive(Default)]
struct Witness {
    daemons: BTreeMap<NodeId, DaemonId>,
    replaced: BTreeSet<(NodeId, DaemonId)>,
    open: BTreeMap<VmId, (NodeId, Epoch)>,
    used: BTreeMap<(VmId, Epoch), NodeId>,
    last: BTreeMap<VmId, Epoch>,
    generations: BTreeMap<VmId, BTreeSet<GenerationNumber>>,
    members: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    serials: BTreeMap<CertificateSerial, NodeId>,
    tokens: BTreeMap<Sha256Hash, (Sha256Hash, NodeId)>,
}

impl Witness {
    fn accepted(&mut self, command: &Command, outcome: &Outcome, after: &ClusterState) {
        match command {
            Command::OpenSession { node, daemon, .. } => {
                assert!(!self.replaced.contains(&(*node, *daemon)), "a dead daemon is back");
                if let Some(before) = self.daemons.insert(*node, *daemon)
                    && before != *daemon
                {
                    self.replaced.insert((*node, before));
                }
            }
            Command::Deploy(_) => self.deployed(outcome, after),
            Command::Membership(command) => self.joined(command, outcome),
            Command::Place { vm, node, epoch } => {
                assert_eq!(self.open.get(vm), None, "{vm} is placed already");
                assert_eq!(self.used.insert((vm.clone(), *epoch), *node), None, "used twice");
                if let Some(last) = self.last.insert(vm.clone(), *epoch) {
                    assert_eq!(last.next(), *epoch, "epochs grow by one");
                }
                self.open.insert(vm.clone(), (*node, *epoch));
            }
            Command::Report { node, daemon, vm, epoch, report: VmReport::FilesGone, .. } => {
                assert_eq!(self.daemons.get(node), Some(daemon), "another daemon is in charge");
                assert_eq!(self.open.get(vm), None, "it is on a host");
                assert_eq!(self.used.get(&(vm.clone(), *epoch)), Some(node), "another host has its files");
            }
            Command::Report { node, daemon, vm, epoch, report, .. } => {
                assert_eq!(self.daemons.get(node), Some(daemon), "another daemon is in charge");
                assert_eq!(self.open.get(vm), Some(&(*node, *epoch)), "not its epoch");
                if matches!(report, VmReport::Stopped | VmReport::Failed { .. } | VmReport::Hindered { .. }) {
                    self.open.remove(vm);
                }
            }
            Command::SetNodeKey { .. }
            | Command::ForgetGenerations { .. }
            | Command::InitCluster { .. }
            | Command::RememberEvaluation(_)
            | Command::Fence(_)
            | Command::Volume(_)
            | Command::Placement(_)
            | Command::Audit { .. }
            | Command::KnowRules { .. }
            | Command::RegisterNode { .. }
            | Command::SetDesired { .. }
            | Command::RestartVm { .. }
            | Command::MoveVm { .. }
            | Command::DeleteVm { .. } => {}
        }
    }

    fn joined(&mut self, command: &MembershipCommand, outcome: &Outcome) {
        if let Outcome::Certified { node, serial, .. } = outcome {
            assert!(!self.gone.contains(node), "node {node} was removed");
            assert!(self.serials.last_key_value().is_none_or(|(last, _)| last < serial), "counted twice");
            self.serials.insert(*serial, *node);
            if let MembershipCommand::AdmitNode(admit) = command {
                self.members.insert(*node);
                let made = self.tokens.entry(admit.token).or_insert((admit.key, *node));
                assert_eq!(*made, (admit.key, *node), "a token makes one node, for one machine");
            }
        }
        if let MembershipCommand::ForgetNode { node } = command {
            self.members.remove(node);
            self.gone.insert(*node);
            assert!(self.open.values().all(|(host, _)| host != node), "vms of {node} are lost");
        }
    }

    fn check_members(&self, state: &ClusterState) {
        assert_eq!(state.nodes.keys().copied().collect::<BTreeSet<_>>(), self.members);
        let names: BTreeSet<_> = state.nodes.values().map(|node| &node.name).collect();
        assert_eq!(names.len(), state.nodes.len(), "two nodes of one name");
        for (&serial, &node) in &self.serials {
            let standing = state.peer_standing(node, serial);
            assert_ne!(standing, PeerStanding::Newer);
            assert_eq!(standing == PeerStanding::Removed, self.gone.contains(&node), "{node} {serial}");
        }
    }

    fn deployed(&mut self, outcome: &Outcome, after: &ClusterState) {
        let Outcome::Deployed { vms, .. } = outcome else { panic!("{outcome:?}") };
        for one in vms {
            let seen = self.generations.entry(one.vm.clone()).or_default();
            if one.change == VmChange::Unchanged {
                let returned = after.vms[&one.vm].returned.as_ref();
                let newest = returned.map_or(one.generation, |returned| returned.from);
                assert_eq!(seen.last(), Some(&newest), "the target is the newest, unless that was given up");
                assert!(seen.contains(&one.generation));
            } else {
                assert!(seen.last().is_none_or(|last| *last < one.generation));
                seen.insert(one.generation);
            }
        }
    }

    /// What is deleted may come back, with generations from 1, but at later epochs.
    fn forget_deleted(&mut self, state: &ClusterState) {
        self.generations.retain(|vm, _| state.vms.contains_key(vm));
        self.last.retain(|vm, _| state.vms.contains_key(vm));
    }

    fn check(&self, state: &ClusterState) {
        let placed = |(vm, of): (&VmId, &crate::state::Vm)| match of.run {
            Run::Placed { node, epoch, .. } => Some((vm.clone(), (node, epoch))),
            Run::Unplaced { .. } => None,
        };
        let open: BTreeMap<_, _> = state.vms.iter().filter_map(placed).collect();
        assert_eq!(open, self.open, "placements end by a report only");
        for node in state.nodes.keys() {
            let of = state.vms.values().filter(|vm| vm.run.host() == Some(*node));
            let taken = |vm: &crate::state::Vm| state.specs[&vm.generations[&vm.target].spec].resources;
            let memory: u64 = of.clone().map(|vm| taken(vm).memory_mib).sum();
            assert!(memory <= MEMORY_MIB, "{node} is overbooked: {memory} MiB");
        }
        let mut used = BTreeSet::new();
        for (vm, of) in &state.vms {
            assert!((1..=GENERATIONS_KEPT).contains(&of.generations.len()));
            assert!(of.generations.contains_key(&of.target));
            let seen = &self.generations[vm];
            assert!(of.generations.keys().all(|number| seen.contains(number)));
            used.extend(of.generations.values().map(|generation| generation.spec));
        }
        assert_eq!(state.specs.keys().copied().collect::<BTreeSet<_>>(), used);
        self.check_members(state);
        assert!(state.events.iter().count() <= EVENTS_KEPT);
        assert!(state.events.iter().is_sorted_by_key(|event| event.revision));
    }
}

fn unchanged_but_for_the_log(before: &ClusterState, after: &ClusterState) -> bool {
    let mut before = before.clone();
    before.applied = after.applied;
    before.requests = after.requests.clone();
    before == *after
}

/// The state without the counts of reports and calls: one that says nothing new is counted all the same.
fn as_heard(state: &ClusterState) -> ClusterState {
    let mut state = state.clone();
    state.vms.values_mut().for_each(|vm| (vm.heard, vm.wishes) = (0, 0));
    state
}

/// Two hosts of a cluster that others can join.
fn hosts() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, MEMORY_MIB), (2, MEMORY_MIB)]);
    cluster.ok(Command::Membership(adopt()));
    cluster
}

fn adopt() -> MembershipCommand {
    MembershipCommand::AdoptAuthority { fingerprint: Sha256Hash::of(b"authority") }
}

fn run(ops: &[Op]) {
    let mut cluster = hosts();
    let mut twin = cluster.clone();
    let mut witness = Witness::default();
    for node in 1..=2 {
        witness.daemons.insert(NodeId(node), daemon(node, 1));
        witness.members.insert(NodeId(node));
    }
    let mut last: Option<(Command, Result<Outcome, Rejection>)> = None;
    for op in ops {
        let before = last.as_ref().map(|(command, _)| command);
        let Some(command) = command(op, &cluster.state, before) else {
            continue;
        };
        let state = cluster.state.clone();
        if let (Op::Duplicate, Some((_, outcome))) = (op, &last) {
            let request = blixard_types::RequestId(u128::from(cluster.index).to_be_bytes());
            assert_eq!(cluster.apply_as(request, command.clone()), *outcome);
            assert_eq!(twin.apply_as(request, command), *outcome);
            assert!(unchanged_but_for_the_log(&state, &cluster.state));
            last = None;
            continue;
        }
        let outcome = cluster.apply(command.clone());
        assert_eq!(outcome, twin.apply(command.clone()));
        match &outcome {
            Ok(said) => {
                let same = unchanged_but_for_the_log(&as_heard(&state), &as_heard(&cluster.state));
                // A deployment may leave every vm as it is.
                let deployed = matches!(said, Outcome::Deployed { .. });
                assert!(deployed || same == (*said == Outcome::Unchanged), "{command:?}");
                witness.accepted(&command, said, &cluster.state);
            }
            Err(refused) => {
                assert!(unchanged_but_for_the_log(&state, &cluster.state), "{refused}");
            }
        }
        witness.forget_deleted(&cluster.state);
        witness.check(&cluster.state);
        last = Some((command, outcome));
    }
    assert_eq!(cluster.state, twin.state);
    let json = serde_json::to_string(&cluster.state).unwrap();
    assert_eq!(json, serde_json::to_string(&twin.state).unwrap());
    assert_eq!(serde_json::from_str::<ClusterState>(&json).unwrap(), cluster.state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_sequence_of_commands_breaks_an_invariant(ops in prop::collection::vec(ops(), 1..120)) {
        run(&ops);
    }
}

fn has_returned(state: &ClusterState) -> bool {
    let newest = state.events.iter().next_back();
    newest.is_some_and(|event| {
        matches!(event.kind, EventKind::Returned { .. }) && event.revision == state.applied.revision()
    })
}

#[test]
fn the_sequences_reach_what_they_are_about() {
    // A property over sequences that never place or end anything would prove nothing.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::<&str, u32>::new();
    for _ in 0..150 {
        let ops = prop::collection::vec(ops(), 100).new_tree(&mut runner).unwrap().current();
        let mut cluster = hosts();
        for op in &ops {
            let Some(command) = command(op, &cluster.state, None) else { continue };
            let what = match (&command, cluster.apply(command.clone())) {
                (Command::Membership(command), Ok(_)) => match command {
                    MembershipCommand::AdmitNode(_) => "joined",
                    MembershipCommand::ForgetNode { .. } => "went",
                    _ => "other",
                },
                (Command::Place { epoch, .. }, Ok(_)) if epoch.0 > 2 => "placed a third time",
                (Command::Place { .. }, Err(Rejection::NoRoom { .. })) => "no room",
                (Command::Deploy(_), Err(Rejection::NoRoom { .. })) => "no room to grow",
                (Command::Place { .. }, Err(Rejection::StillPlaced { .. })) => "still placed",
                (Command::Report { .. }, Err(Rejection::StaleSession { .. })) => "stale",
                (Command::OpenSession { .. }, Ok(Outcome::Changed { .. })) => "new daemon",
                (Command::DeleteVm { .. }, Ok(_)) => "deleted",
                (Command::Report { .. }, Ok(_)) if has_returned(&cluster.state) => "returned",
                _ => "other",
            };
            *reached.entry(what).or_default() += 1;
        }
    }
    assert_eq!(reached.len(), 11, "{reached:?}");
    assert!(reached.values().all(|count| *count >= 5), "{reached:?}");
}
