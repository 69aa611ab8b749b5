//! The planner's index against the rules said plainly, and against itself made anew.

use blixard_types::spec::Strategy as Order;
use blixard_types::{Incarnation, Revision, Sha256Hash};
use proptest::prelude::*;

use super::super::explain::explain;
use super::*;
use crate::assignment::{Assignment, AssignmentSet, Index, Intent, Touched, assignments_of};
use crate::command::{Command, FenceCommand};
use crate::fixture::vm;
use crate::rules::RULES;
use crate::state::{Admission, Authority};

const NODES: u64 = 4;
const VMS: u64 = 8;

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
enum Happening {
    Deploy {
        vm: u64,
        memory_mib: u64,
        label: u8,
        near: u8,
        far: u8,
        pack: bool,
        priority: i32,
    },
    Desired(u64, bool),
    Delete(u64),
    Restart(u64),
    Move(u64),
    Report(u64, u8),
    PlaceAsPlanned,
    Place(u64, u64),
    Session {
        node: u64,
        start: u64,
        memory_mib: u64,
        kvm: bool,
    },
    Admission(u64, bool),
    Lost(u64),
    Back(u64),
    Incarnation,
    EndQuarantine,
    /// Nothing is said of it by an event, and it takes its number.
    Token,
}

fn happenings() -> impl Strategy<Value = Happening> {
    let (vm, node) = (0..VMS, 1..=NODES);
    let deploy = (vm.clone(), 1..600_u64, 0..3_u8, 0..3_u8, 0..3_u8, any::<bool>(), -1..2_i32).prop_map(
        |(vm, memory_mib, label, near, far, pack, priority)| Happening::Deploy {
            vm,
            memory_mib,
            label,
            near,
            far,
            pack,
            priority,
        },
    );
    let session = (node.clone(), 1..3_u64, 200..1500_u64, any::<bool>())
        .prop_map(|(node, start, memory_mib, kvm)| Happening::Session { node, start, memory_mib, kvm });
    prop_oneof![
        6 => deploy,
        2 => (vm.clone(), any::<bool>()).prop_map(|(vm, runs)| Happening::Desired(vm, runs)),
        1 => vm.clone().prop_map(Happening::Delete),
        2 => vm.clone().prop_map(Happening::Restart),
        1 => vm.clone().prop_map(Happening::Move),
        6 => (vm.clone(), 0..4_u8).prop_map(|(vm, what)| Happening::Report(vm, what)),
        5 => Just(Happening::PlaceAsPlanned),
        2 => (vm, node.clone()).prop_map(|(vm, node)| Happening::Place(vm, node)),
        3 => session,
        2 => (node.clone(), any::<bool>()).prop_map(|(node, open)| Happening::Admission(node, open)),
        1 => node.clone().prop_map(Happening::Lost),
        1 => node.prop_map(Happening::Back),
        1 => Just(Happening::Incarnation),
        2 => Just(Happening::EndQuarantine),
        1 => Just(Happening::Token),
    ]
}

/// What a host is to run, and what it is to stop.
fn epochs(set: &AssignmentSet) -> Vec<(&VmId, Epoch, bool)> {
    let of = |(vm, one): (_, &Assignment)| (vm, one.epoch, one.intent == Intent::Stop);
    set.assignments.iter().map(|(vm, one)| of((vm, one))).collect()
}

fn name(vm: u64) -> String {
    format!("vm{vm}")
}

/// What a happening comes to; refusals are part of it.
fn happen(cluster: &mut Cluster, happening: &Happening, planner: &mut Planner) {
    let authority = Authority { incarnation: cluster.state.incarnation(), term: 1 };
    let command = match *happening {
        Happening::Deploy { vm, memory_mib, label, near, far, pack, priority } => {
            let mut wanted = spec(memory_mib);
            // 0 is none.
            let labels = |number: u8| {
                let some = Some(("app".to_owned(), number.to_string())).filter(|_| number > 0);
                some.into_iter().collect::<BTreeMap<_, _>>()
            };
            wanted.labels = labels(label);
            (wanted.placement.affinity, wanted.placement.anti_affinity) = (labels(near), labels(far));
            wanted.placement.strategy = if pack { Order::Binpack } else { Order::Spread };
            wanted.placement.priority = priority;
            deploy(vec![definition(&name(vm), "a", wanted)])
        }
        Happening::Desired(vm, runs) => {
            desired(&name(vm), if runs { Desired::Running } else { Desired::Stopped })
        }
        Happening::Delete(vm) => delete(&name(vm)),
        Happening::Restart(vm) => crate::fixture::restart(&name(vm)),
        Happening::Move(of) => {
            let epoch = cluster.state.vms.get(&vm(&name(of))).map_or(Epoch(0), |vm| vm.last_epoch);
            Command::MoveVm { vm: vm(&name(of)), epoch }
        }
        Happening::Report(vm, what) => return say(cluster, vm, what),
        Happening::PlaceAsPlanned => {
            for decided in planner.plan(&cluster.state, UnixMillis(u64::MAX)).placements {
                cluster.ok(place(&decided.vm.to_string(), decided.node.0, decided.epoch.0));
            }
            return;
        }
        Happening::Place(of, node) => {
            let epoch = cluster.state.vms.get(&vm(&name(of))).map_or(1, |vm| vm.last_epoch.0 + 1);
            place(&name(of), node, epoch)
        }
        Happening::Session { node, start, memory_mib, kvm } => {
            let mut facts = facts(memory_mib);
            facts.kvm = kvm;
            session(node, start, facts)
        }
        Happening::Admission(node, open) => Command::Fence(FenceCommand::SetAdmission {
            node: NodeId(node),
            admission: if open { Admission::Open } else { Admission::Cordoned },
        }),
        Happening::Lost(node) => Command::Fence(FenceCommand::NodeLost { node: NodeId(node), authority }),
        Happening::Back(node) => Command::Fence(FenceCommand::NodeBack { node: NodeId(node), authority }),
        Happening::Incarnation => Command::Fence(FenceCommand::BeginIncarnation {
            incarnation: Incarnation(cluster.state.incarnation().0 + 1),
            survivor: None,
        }),
        Happening::EndQuarantine => Command::Fence(FenceCommand::EndQuarantine { authority }),
        Happening::Token => {
            let (revision, digest) = (Revision(1), Sha256Hash([0; 32]));
            Command::Audit { revision, digest, rules: RULES.newest }
        }
    };
    let _ = cluster.apply(command);
    cluster.arm();
}

/// The host that has a vm says something of it.
fn say(cluster: &mut Cluster, of: u64, what: u8) {
    let Some(Run::Placed { node, epoch, .. }) =
        cluster.state.vms.get(&vm(&name(of))).map(|vm| vm.run.clone())
    else {
        return;
    };
    let generation = cluster.vm(&name(of)).target.0;
    let said = match what {
        0 => VmReport::Stopped,
        1 => failed(generation, "boom"),
        2 => running(generation, HealthStatus::Healthy),
        _ => crate::fixture::starting(generation),
    };
    let Some(daemon) = cluster.state.nodes[&node].session.as_ref().map(|session| session.daemon) else {
        return;
    };
    let _ = cluster.apply(report_of(node.0, daemon, &name(of), epoch.0, said));
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[]);
    for node in 1..=NODES {
        cluster.ok(register(node, &[Role::Host]));
        cluster.ok(session(node, 1, facts(600 + 100 * node)));
    }
    cluster.arm();
    cluster
}

proptest! {
    #[test]
    fn a_planner_that_follows_plans_like_one_made_anew(
        happenings in prop::collection::vec(happenings(), 1..60),
        looks in prop::collection::vec(any::<bool>(), 60),
    ) {
        let (mut cluster, mut planner) = (cluster(), Planner::default());
        for (happening, look) in happenings.iter().zip(looks) {
            happen(&mut cluster, happening, &mut planner);
            if look {
                let now = UnixMillis(u64::MAX);
                prop_assert_eq!(planner.plan(&cluster.state, now), plan(&cluster.state, now));
                // Asked again it says the same, and nothing was decided by asking.
                let again = planner.placements(&cluster.state, now);
                prop_assert_eq!(again.placements, plan(&cluster.state, now).placements);
            }
        }
    }

    #[test]
    fn an_index_that_follows_grants_like_one_made_anew(
        happenings in prop::collection::vec(happenings(), 1..60),
        looks in prop::collection::vec(any::<bool>(), 60),
    ) {
        let (mut cluster, mut planner) = (cluster(), Planner::default());
        let mut index = Index::default();
        let granted = |cluster: &Cluster| -> Vec<_> {
            (1..=NODES).map(|node| assignments_of(&cluster.state, NodeId(node))).collect()
        };
        let mut before = granted(&cluster);
        for (happening, look) in happenings.iter().zip(looks) {
            happen(&mut cluster, happening, &mut planner);
            if look {
                let (touched, now) = (index.follow(&cluster.state), granted(&cluster));
                for node in 1..=NODES {
                    let at = usize::try_from(node - 1).unwrap();
                    prop_assert_eq!(&index.assignments(&cluster.state, NodeId(node)), &now[at]);
                    // Who has a closure besides may change without a word.
                    let told = match &touched {
                        Touched::All => true,
                        Touched::Hosts(hosts) => hosts.contains(&NodeId(node)),
                    };
                    prop_assert!(told || epochs(&before[at]) == epochs(&now[at]), "host {} is not told", node);
                }
                before = now;
            }
        }
    }

    #[test]
    fn placements_that_are_planned_a_few_at_a_time_are_those_that_are_planned_at_once(
        happenings in prop::collection::vec(happenings(), 1..60),
        most in 1..4_usize,
    ) {
        let (mut cluster, mut planner) = (cluster(), Planner::default());
        for happening in &happenings {
            happen(&mut cluster, happening, &mut planner);
        }
        let now = UnixMillis(u64::MAX);
        let at_once = plan(&cluster.state, now).placements;
        let some = planner.next_placements(&cluster.state, now, most).placements;
        prop_assert_eq!(&some[..], &at_once[..most.min(at_once.len())]);
        prop_assert_eq!(planner.plan(&cluster.state, now).placements, at_once);
    }

    #[test]
    fn the_host_that_is_chosen_is_the_one_that_the_reasons_speak_for(
        happenings in prop::collection::vec(happenings(), 1..60),
    ) {
        let (mut cluster, mut planner) = (cluster(), Planner::default());
        for happening in &happenings {
            happen(&mut cluster, happening, &mut planner);
        }
        let made = plan(&cluster.state, UnixMillis(u64::MAX));
        // Only what is decided first is decided in this state.
        if let Some(first) = made.placements.first() {
            let explanation = explain(&cluster.state, &first.vm, UnixMillis(u64::MAX)).unwrap();
            prop_assert_eq!(explanation.best, Some(first.node));
        }
        for (id, waiting) in &made.waiting {
            let explanation = explain(&cluster.state, id, UnixMillis(u64::MAX)).unwrap();
            if made.placements.is_empty() && matches!(waiting, WaitingOn::Host { .. }) {
                prop_assert_eq!(explanation.best, None);
                prop_assert!(explanation.verdicts.iter().all(|verdict| verdict.result.is_err()));
            }
        }
    }
}

#[test]
fn a_planner_that_is_far_behind_reads_all_anew() {
    let (mut cluster, mut planner) = (cluster(), Planner::default());
    cluster.deploy("web", "a", spec(100));
    planner.plan(&cluster.state, UnixMillis(0));
    for _ in 0..crate::state::EVENTS_KEPT {
        cluster.ok(desired("web", Desired::Stopped));
        cluster.ok(desired("web", Desired::Running));
    }
    cluster.deploy("db", "a", spec(100));
    assert!(cluster.state.events_after(Revision(1)).is_err());
    assert_eq!(planner.plan(&cluster.state, UnixMillis(0)), plan(&cluster.state, UnixMillis(0)));
}
