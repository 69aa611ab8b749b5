//! What the state grants each host, and whom a change of it concerns.
//!
//! Owns: that what a host is granted is made once a revision, and from what concerns it alone; that a stream is woken
//! by what concerns its host. There is a stream for each host, and each asks at every heartbeat: if each change of
//! the state were looked at for every host, or every vm for each heartbeat, grants would come late while many vms are
//! placed, which is when hosts can afford it least.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::assignment::{AssignmentSet, Index, Touched};
use blixard_core::command::Command;
use blixard_core::state::ClusterState;
use blixard_types::{NodeId, Revision};
use tokio::sync::watch;

/// What was made, and who listens.
#[derive(Debug, Default)]
pub(super) struct Assigned(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    index: Index,
    /// The newest set of each host, and the revision that it is known to be of.
    sets: BTreeMap<NodeId, (Revision, Arc<AssignmentSet>)>,
    listeners: BTreeMap<NodeId, watch::Sender<Revision>>,
}

impl Assigned {
    /// What a host is granted. What is as it was stays the same in memory, too.
    pub(super) fn of(&self, state: &ClusterState, host: NodeId) -> Arc<AssignmentSet> {
        let mut known = self.known();
        let revision = state.applied.revision();
        let before = known.sets.get(&host);
        if let Some((_, set)) = before.filter(|(of, _)| *of == revision) {
            return Arc::clone(set);
        }
        let set = known.index.assignments(state, host);
        let same = before.map(|(_, before)| before).filter(|before| ***before == set);
        let set = same.map_or_else(|| Arc::new(set), Arc::clone);
        known.sets.insert(host, (revision, Arc::clone(&set)));
        set
    }

    /// Tells of changes that may concern a host.
    pub(super) fn listen(&self, host: NodeId) -> watch::Receiver<Revision> {
        let mut known = self.known();
        known.listeners.entry(host).or_insert_with(|| watch::Sender::new(Revision(0))).subscribe()
    }

    /// The state has changed by this command.
    pub(super) fn follow(&self, state: &ClusterState, command: &Command) {
        let mut known = self.known();
        let touched = match command {
            // Of these nobody is told by an event.
            Command::ForgetGenerations { .. } => {
                known.index.follow(state);
                Touched::All
            }
            _ => known.index.follow(state),
        };
        known.tell(state.applied.revision(), &touched);
    }

    /// The state is another one.
    pub(super) fn read_anew(&self, state: &ClusterState) {
        let mut known = self.known();
        (known.index, known.sets) = (Index::of(state), BTreeMap::new());
        known.tell(state.applied.revision(), &Touched::All);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Who panicked here has left nothing half done that is not made anew from the state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn tell(&self, revision: Revision, touched: &Touched) {
        let concerned = |host: &NodeId| match touched {
            Touched::All => true,
            Touched::Hosts(hosts) => hosts.contains(host),
        };
        for (_, listeners) in self.listeners.iter().filter(|(host, _)| concerned(host)) {
            listeners.send_replace(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use blixard_core::assignment;
    use blixard_core::command::{Deploy, Envelope, TakeOver, VmDefinition};
    use blixard_core::ports::UnixMillis;
    use blixard_core::ports::consensus::ReplicatedMachine as _;
    use blixard_core::rules::RULES;
    use blixard_core::state::{Desired, NodeFacts, Role, Terms};
    use blixard_types::{ClosureRef, ClusterId, DaemonId, DeploymentId, Epoch, LogPosition, RequestId};
    use blixard_types::{Sha256Hash, Spec, StorePath};

    use super::super::{CHECKPOINT_VERSION, CheckpointFile, Replica};
    use super::*;

    const HOST: NodeId = NodeId(1);

    fn apply(state: &mut ClusterState, assigned: &Assigned, command: Command) {
        let index = state.applied.revision().0 + 1;
        let request = RequestId(u128::from(index).to_be_bytes());
        let envelope = Envelope { request, at: UnixMillis(0), by: None, command };
        state.apply(&envelope, LogPosition { term: 1, index }).unwrap();
        assigned.follow(state, &envelope.command);
    }

    fn deploy() -> Command {
        let root: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-web".parse().unwrap();
        let hash = Sha256Hash([0; 32]);
        let closure = ClosureRef {
            root: root.clone(),
            nar_hash: hash,
            closure_digest: hash,
            path_count: 1,
            nar_size: 1,
        };
        let (vm, spec) = ("web".parse().unwrap(), Spec::minimal(1, 64));
        let system = "x86_64-linux".to_owned();
        Command::Deploy(Deploy {
            deployment: DeploymentId([7; 16]),
            source: "git+https://example.org/machines".parse().unwrap(),
            take_over: TakeOver::Refuse,
            vms: vec![VmDefinition { vm, drv: root, system, closure, spec }],
            builder: None,
        })
    }

    fn facts() -> NodeFacts {
        NodeFacts {
            cpus: 4,
            memory_mib: 4096,
            system: "x86_64-linux".to_owned(),
            kvm: true,
            kernel: String::new(),
            version: String::new(),
            disk_mib: None,
            hypervisors: [].into(),
            nix_version: String::new(),
            terms: Terms::default(),
            shared: [].into(),
        }
    }

    fn register(node: NodeId, name: &str) -> Command {
        Command::RegisterNode { node, name: name.parse().unwrap(), roles: [Role::Host].into() }
    }

    /// A host, and a vm that is on none.
    fn cluster(assigned: &Assigned) -> ClusterState {
        let mut state = ClusterState::default();
        apply(
            &mut state,
            assigned,
            Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest },
        );
        apply(&mut state, assigned, register(HOST, "n1"));
        let (daemon, boot) = (DaemonId([1; 16]), "boot".to_owned());
        apply(&mut state, assigned, Command::OpenSession { node: HOST, daemon, boot, facts: facts() });
        apply(&mut state, assigned, deploy());
        state
    }

    fn place() -> Command {
        Command::Place { vm: "web".parse().unwrap(), node: HOST, epoch: Epoch(1) }
    }

    #[test]
    fn a_set_stays_the_same_in_memory_until_it_changes() {
        let assigned = Assigned::default();
        let mut state = cluster(&assigned);
        assert_eq!(*assigned.of(&state, HOST), AssignmentSet::default());
        apply(&mut state, &assigned, place());
        let placed = assigned.of(&state, HOST);
        assert_eq!(*placed, assignment::assignments_of(&state, HOST));
        assert_eq!(placed.assignments.len(), 1);
        apply(&mut state, &assigned, register(NodeId(2), "n2"));
        assert!(Arc::ptr_eq(&placed, &assigned.of(&state, HOST)), "another node has come");
        let vm = "web".parse().unwrap();
        apply(&mut state, &assigned, Command::SetDesired { vm, desired: Desired::Stopped });
        assert_ne!(placed, assigned.of(&state, HOST));
    }

    #[test]
    fn a_host_is_woken_by_what_may_concern_it_and_by_nothing_else() {
        let assigned = Assigned::default();
        let mut state = cluster(&assigned);
        let (mut here, mut elsewhere) = (assigned.listen(HOST), assigned.listen(NodeId(2)));
        let mut woken = || {
            let woken = [&here, &elsewhere].map(|news| news.has_changed().unwrap());
            here.mark_unchanged();
            elsewhere.mark_unchanged();
            woken
        };
        assert_eq!(woken(), [false, false]);
        apply(&mut state, &assigned, place());
        assert_eq!(woken(), [true, false]);
        apply(&mut state, &assigned, register(NodeId(2), "n2"));
        assert_eq!(woken(), [false, true]);
        apply(&mut state, &assigned, Command::ForgetGenerations { keep: 1 });
        assert_eq!(woken(), [true, true], "what is kept is told by no event");
        assigned.read_anew(&state);
        assert_eq!(woken(), [true, true]);
    }

    #[test]
    fn a_state_that_takes_the_place_of_another_grants_what_is_in_it() {
        let assigned = Assigned::default();
        let mut state = cluster(&assigned);
        let before = state.clone();
        apply(&mut state, &assigned, place());
        assert_eq!(assigned.of(&state, HOST).assignments.len(), 1);
        assigned.read_anew(&before);
        assert_eq!(*assigned.of(&before, HOST), AssignmentSet::default());
    }

    #[test]
    fn a_server_that_has_taken_a_checkpoint_grants_what_is_in_it() {
        let assigned = Assigned::default();
        let mut state = cluster(&assigned);
        apply(&mut state, &assigned, place());
        let file = CheckpointFile { version: CHECKPOINT_VERSION, state };
        let replica = Replica::default();
        let news = replica.news_for(HOST);
        replica.restore(&serde_json::to_vec(&file).unwrap()).unwrap();
        assert!(news.has_changed().unwrap());
        let set = replica.read(|state| replica.assignments(state, HOST));
        assert_eq!(set.assignments.len(), 1);
    }
}
