//! What the state grants each host, for as long as the state is what it is.
//!
//! Owns: that it is made once a revision, for all who ask. There is a stream for each host, and each asks at every
//! heartbeat and at every change of the state: made for each alone, a change would cost hosts times vms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::assignment::{self, AssignmentSet};
use blixard_core::state::ClusterState;
use blixard_types::{NodeId, Revision};

/// The sets of one revision.
#[derive(Debug, Default)]
pub(super) struct Assigned(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    of: Option<Revision>,
    sets: BTreeMap<NodeId, Arc<AssignmentSet>>,
}

impl Assigned {
    pub(super) fn of(&self, state: &ClusterState, host: NodeId) -> Arc<AssignmentSet> {
        // Who panicked here has changed nothing.
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = state.applied.revision();
        if sets.of != Some(revision) {
            sets.renew(state);
            sets.of = Some(revision);
        }
        sets.sets.get(&host).cloned().unwrap_or_default()
    }
}

impl Sets {
    /// What is as it was stays the same in memory, too.
    fn renew(&mut self, state: &ClusterState) {
        let before = std::mem::take(&mut self.sets);
        let kept = |(host, set): (NodeId, AssignmentSet)| {
            let same = before.get(&host).filter(|before| ***before == set);
            (host, same.map_or_else(|| Arc::new(set), Arc::clone))
        };
        self.sets = assignment::assignments(state).into_iter().map(kept).collect();
    }
}

#[cfg(test)]
mod tests {
    use blixard_core::command::{Command, Deploy, Envelope, TakeOver, VmDefinition};
    use blixard_core::ports::UnixMillis;
    use blixard_core::rules::RULES;
    use blixard_core::state::{Desired, NodeFacts, Role, Terms};
    use blixard_types::{ClosureRef, ClusterId, DaemonId, DeploymentId, Epoch, LogPosition, RequestId};
    use blixard_types::{Sha256Hash, Spec, StorePath};

    use super::*;

    const HOST: NodeId = NodeId(1);

    fn apply(state: &mut ClusterState, command: Command) {
        let index = state.applied.revision().0 + 1;
        let request = RequestId(u128::from(index).to_be_bytes());
        let envelope = Envelope { request, at: UnixMillis(0), by: None, command };
        state.apply(&envelope, LogPosition { term: 1, index }).unwrap();
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

    #[test]
    fn a_set_stays_the_same_in_memory_until_it_changes() {
        let mut state = ClusterState::default();
        apply(&mut state, Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest });
        let register = |node, name: &str| Command::RegisterNode {
            node,
            name: name.parse().unwrap(),
            roles: [Role::Host].into(),
        };
        apply(&mut state, register(HOST, "n1"));
        let (daemon, boot) = (DaemonId([1; 16]), "boot".to_owned());
        apply(&mut state, Command::OpenSession { node: HOST, daemon, boot, facts: facts() });
        apply(&mut state, deploy());
        let assigned = Assigned::default();
        assert_eq!(*assigned.of(&state, HOST), AssignmentSet::default());
        let (vm, epoch): (blixard_types::VmId, _) = ("web".parse().unwrap(), Epoch(1));
        apply(&mut state, Command::Place { vm: vm.clone(), node: HOST, epoch });
        let placed = assigned.of(&state, HOST);
        assert_eq!(*placed, assignment::assignments_of(&state, HOST));
        assert_eq!(placed.assignments.len(), 1);
        apply(&mut state, register(NodeId(2), "n2"));
        assert!(Arc::ptr_eq(&placed, &assigned.of(&state, HOST)), "another node has come");
        apply(&mut state, Command::SetDesired { vm, desired: Desired::Stopped });
        assert_ne!(placed, assigned.of(&state, HOST));
    }
}
