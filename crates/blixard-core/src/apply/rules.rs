//! When newer rules begin to hold ([`crate::rules`]).

use blixard_types::NodeId;

use super::{Moment, Rejection};
use crate::command::Outcome;
use crate::rules::Rules;
use crate::state::{ClusterState, Role};

impl ClusterState {
    /// A server says up to which rules its program knows them. Fewer than before, after a downgrade, count too.
    pub(super) fn know_rules(
        &mut self,
        server: NodeId,
        newest: Rules,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let node = self.known_node(server)?;
        if std::mem::replace(&mut node.rules, newest) == newest {
            return Ok(Outcome::Unchanged);
        }
        self.review_rules();
        Ok(moment.changed())
    }

    /// From the next entry on, what all servers know holds. It never becomes less: what was applied by newer rules
    /// cannot be gone on with by older ones.
    pub(super) fn review_rules(&mut self) {
        let servers = self.nodes.values().filter(|node| node.roles.contains(&Role::Server));
        let known_to_all = servers.map(|node| node.rules).min();
        self.rules = self.rules.max(known_to_all.unwrap_or_default());
    }
}
