//! Figures of the scheduler for `cargo xtask bench schedule`: one JSON value on standard output.
//!
//! A thousand hosts in four zones, ten thousand vms of two hundred apps: replicas that avoid each other, some that
//! want a zone, some packed. The peer is the plain way: look at every host for every vm, with the same filter
//! of room and platform, and neither affinities nor reasons.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: it may panic, and its counts are small"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use blixard_core::command::{Command, Deploy, Envelope, FenceCommand, TakeOver, VmDefinition};
use blixard_core::ports::UnixMillis;
use blixard_core::rules::RULES;
use blixard_core::schedule::{PlacementDecision, Planner};
use blixard_core::state::{ClusterState, NodeFacts, Role, Terms, Usage, VmReport};
use blixard_types::spec::{Constraint, ConstraintOperator, Strategy};
use blixard_types::{
    ClosureRef, ClusterId, DaemonId, DeploymentId, LogPosition, NodeId, RequestId, Sha256Hash, Spec, VmId,
};

const HOSTS: u64 = 1000;
const VMS: u64 = 10_000;
const APPS: u64 = 200;
const STEADY: usize = 20_000;
const NOW: UnixMillis = UnixMillis(0);

#[derive(Default)]
struct Cluster {
    state: ClusterState,
    index: u64,
}

impl Cluster {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let request = RequestId(u128::from(self.index).to_be_bytes());
        let envelope = Envelope { request, at: NOW, by: None, command };
        self.state.apply(&envelope, LogPosition { term: 1, index: self.index }).unwrap();
    }

    fn place(&mut self, decided: &PlacementDecision) {
        let PlacementDecision { vm, node, epoch } = decided.clone();
        self.apply(Command::Place { vm, node, epoch });
    }
}

fn daemon(node: u64) -> DaemonId {
    DaemonId(u128::from(node).to_be_bytes())
}

fn with_hosts() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.apply(Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest });
    for id in 1..=HOSTS {
        let (node, name) = (NodeId(id), format!("n{id}").parse().unwrap());
        cluster.apply(Command::RegisterNode { node, name, roles: [Role::Host].into() });
        let labels = [("zone".to_owned(), (id % 4).to_string())].into();
        let facts = NodeFacts {
            cpus: 32,
            memory_mib: 65_536 + 1024 * (id % 7),
            system: "x86_64-linux".to_owned(),
            kvm: true,
            kernel: String::new(),
            version: String::new(),
            disk_mib: Some(1 << 20),
            hypervisors: [].into(),
            nix_version: String::new(),
            terms: Terms { labels, ..Terms::default() },
            shared: [].into(),
        };
        let session = Command::OpenSession { node, daemon: daemon(id), boot: String::new(), facts };
        cluster.apply(session);
    }
    let held = cluster.state.fencing.since.unwrap();
    for node in cluster.state.unfenced().collect::<Vec<_>>() {
        cluster.apply(Command::Fence(FenceCommand::FenceArmed { node, daemon: daemon(node.0), held }));
    }
    cluster
}

fn definition(number: u64) -> VmDefinition {
    let app = number % APPS;
    let mut spec = Spec::minimal(1 + u32::try_from(app % 4).unwrap(), 1024 << (app % 3));
    let label: BTreeMap<String, String> = [("app".to_owned(), app.to_string())].into();
    spec.labels = label.clone();
    spec.placement.anti_affinity = label;
    if app.is_multiple_of(5) {
        spec.placement.strategy = Strategy::Binpack;
    }
    if app.is_multiple_of(3) {
        let values = vec![(app % 4).to_string()];
        let (label, operator) = ("zone".to_owned(), ConstraintOperator::In);
        spec.placement.constraints = vec![Constraint { label, operator, values }];
    }
    let root: blixard_types::StorePath =
        format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-app-{app}").parse().unwrap();
    let hash = Sha256Hash([0; 32]);
    let closure =
        ClosureRef { root: root.clone(), nar_hash: hash, closure_digest: hash, path_count: 1, nar_size: 1 };
    VmDefinition { vm: id(number), drv: root, system: "x86_64-linux".to_owned(), closure, spec }
}

fn id(number: u64) -> VmId {
    format!("app-{}-{number}", number % APPS).parse().unwrap()
}

fn deploy(cluster: &mut Cluster) {
    let vms: Vec<VmDefinition> = (0..VMS).map(definition).collect();
    for vms in vms.chunks(1000) {
        cluster.apply(Command::Deploy(Deploy {
            deployment: DeploymentId([7; 16]),
            source: "git+https://example.org/machines".parse().unwrap(),
            take_over: TakeOver::Refuse,
            vms: vms.to_vec(),
            builder: None,
        }));
    }
}

/// Decisions per second of the plain way, over this many vms.
fn plain(state: &ClusterState, vms: usize) -> f64 {
    let mut used: BTreeMap<NodeId, Usage> = state.nodes.keys().map(|&id| (id, state.usage(id))).collect();
    let begun = Instant::now();
    for vm in state.vms.values().take(vms) {
        let (generation, spec) = (vm.target_generation().unwrap(), state.target_spec(vm).unwrap());
        let fits = |(&id, node): (&NodeId, &blixard_core::state::Node)| {
            let facts = &node.session.as_ref()?.facts;
            facts
                .capacity()
                .fits(used[&id], Usage::of(spec))
                .ok()
                .filter(|()| facts.system == generation.system)?;
            Some((facts.memory_mib - used[&id].memory_mib, id))
        };
        let (_, best) = state.nodes.iter().filter_map(fits).max().unwrap();
        used.entry(best).and_modify(|used| *used = used.plus(spec));
    }
    vms as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    let mut cluster = with_hosts();
    deploy(&mut cluster);
    let plain = plain(&cluster.state, 1000);

    let begun = Instant::now();
    let mut planner = Planner::of(&cluster.state);
    let placed = planner.placements(&cluster.state, NOW).placements;
    let cold = placed.len() as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(placed.len() as u64, VMS);

    let begun = Instant::now();
    for decided in &placed {
        cluster.place(decided);
    }
    let applied = placed.len() as f64 / begun.elapsed().as_secs_f64();

    // One vm after another ends and is placed again: what it takes to decide, with all that has changed read.
    let mut took = Vec::with_capacity(STEADY);
    planner.placements(&cluster.state, NOW);
    for round in 0..STEADY {
        let vm = id((round as u64 * 7919) % VMS);
        let of = &cluster.state.vms[&vm];
        let (node, epoch) = (of.run.host().unwrap(), of.last_epoch);
        let report = VmReport::Failed { generation: of.target, reason: "ended".to_owned() };
        let (daemon, sequence) = (daemon(node.0), of.heard + 1);
        cluster.apply(Command::Report { node, daemon, sequence, vm, epoch, report });
        let begun = Instant::now();
        let decided = planner.placements(&cluster.state, UnixMillis(u64::MAX)).placements;
        took.push(begun.elapsed().as_secs_f64());
        assert_eq!(decided.len(), 1);
        cluster.place(&decided[0]);
    }
    let steady = STEADY as f64 / took.iter().sum::<f64>();
    took.sort_by(f64::total_cmp);
    let p99_us = took[took.len() * 99 / 100] * 1e6;
    println!(r#"{{"plain":{plain},"cold":{cold},"steady":{steady},"p99Us":{p99_us},"applied":{applied}}}"#);
}
