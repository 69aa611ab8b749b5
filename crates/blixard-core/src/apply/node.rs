//! The cluster's identity, its nodes and their sessions.

use blixard_types::{ClusterId, DaemonId, Incarnation, NodeId, NodeName};

use super::{Moment, Rejection};
use crate::command::Outcome;
use crate::rules::Rules;
use crate::signature::NodeKey;
use crate::state::{
    ClusterState, DAEMONS_REMEMBERED, EventKind, Identity, Node, NodeFacts, Role, Roles, Session,
};

impl ClusterState {
    pub(super) fn init_cluster(
        &mut self,
        cluster: ClusterId,
        rules: Rules,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        if self.identity.is_some() {
            return Err(Rejection::AlreadyInitialised);
        }
        self.identity = Some(Identity { cluster, incarnation: Incarnation(1) });
        self.rules = rules;
        Ok(moment.changed())
    }

    pub(super) fn register_node(
        &mut self,
        id: NodeId,
        name: &NodeName,
        roles: &Roles,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        if let Some((other, _)) = self.node_by_name(name).filter(|&(other, _)| other != id) {
            return Err(Rejection::NameTaken { name: name.clone(), other });
        }
        if self.nodes.get(&id).is_some_and(|node| node.name == *name && node.roles == *roles) {
            return Ok(Outcome::Unchanged);
        }
        let fence = self.fence_of(id, roles.contains(&Role::Host));
        let (name, roles) = (name.clone(), roles.clone());
        let node = match self.nodes.get(&id) {
            Some(node) => Node { name: name.clone(), roles, fence, ..node.clone() },
            None => Node::new(name.clone(), roles, fence),
        };
        self.nodes.insert(id, node);
        self.registry.highest_node = self.registry.highest_node.max(id);
        self.review_fencing(moment);
        self.review_rules();
        self.note(moment, EventKind::NodeRegistered { node: id, name });
        Ok(moment.changed())
    }

    /// The key by which a node signs what it has built. A new one replaces the old: what was accepted
    /// before stays accepted.
    pub(super) fn set_node_key(
        &mut self,
        id: NodeId,
        key: NodeKey,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let node = self.nodes.get_mut(&id).ok_or(Rejection::UnknownNode { node: id })?;
        if node.key.replace(key) == Some(key) {
            return Ok(Outcome::Unchanged);
        }
        Ok(moment.changed())
    }

    pub(super) fn open_session(
        &mut self,
        id: NodeId,
        daemon: DaemonId,
        boot: &str,
        facts: &NodeFacts,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let node = self.nodes.get_mut(&id).ok_or(Rejection::UnknownNode { node: id })?;
        let same =
            |session: &Session| session.daemon == daemon && session.boot == boot && session.facts == *facts;
        if node.session.as_ref().is_some_and(same) {
            return Ok(Outcome::Unchanged);
        }
        // A hello may be proposed twice and arrive late. If it gave a dead daemon its session back, that
        // daemon's last reports would end epochs of vms that run.
        if node.replaced.contains(&daemon) {
            return Err(Rejection::StaleSession { node: id });
        }
        if let Some(before) = node.session.as_ref().filter(|before| before.daemon != daemon) {
            node.replaced.push_back(before.daemon);
            if node.replaced.len() > DAEMONS_REMEMBERED {
                node.replaced.pop_front();
            }
        }
        let (boot, facts) = (boot.to_owned(), facts.clone());
        // A new daemon counts its reports from 1.
        if node.session.as_ref().is_none_or(|before| before.daemon != daemon) {
            let placed = self.vms.values_mut().filter(|vm| vm.run.host() == Some(id));
            placed.for_each(|vm| vm.heard = 0);
        }
        node.session = Some(Session { daemon, boot, facts, opened: moment.revision });
        self.note(moment, EventKind::SessionOpened { node: id });
        Ok(moment.changed())
    }
}
