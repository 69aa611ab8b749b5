//! Who should be in the consensus group, and who of them votes.
//!
//! Owns: the one next step from how the group is to how it should be. Refuses to know: how a step is
//! made, and the protocol that makes each of them safe. The leader plans, takes the step, and plans anew.
//!
//! ```text
//! server of the state ─ Add ─▶ learner ─ caught up, and the number stays odd ─▶ voter
//! leaving: hands over if it leads ─▶ votes no more ─ Expel ─▶ out of the group ─ Forget ─▶ gone
//!          └ nobody votes who could take over: a learner is let vote first
//! ```

use std::collections::BTreeSet;

use blixard_types::{NodeAddress, NodeId, NodeName};

use crate::ports::members::{Change, MemberRole, Progress};
use crate::state::{ClusterState, Departure, Node, Role};

/// Voters at most: five survive two losses, and more only make every write slower.
pub const VOTERS_MAX: usize = 5;
/// Entries that a learner may lack when it becomes a voter.
pub const CAUGHT_UP_ENTRIES: u64 = 256;
/// A member that has not answered for so long is not counted on.
pub const HEALTHY_WITHIN_MS: u64 = 3_000;
/// A voter that has not answered for so long is replaced, if there is a learner that can.
pub const REPLACED_AFTER_MS: u64 = 30_000;

/// The consensus group, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The leader, who plans.
    pub leader: NodeId,
    /// For how long it has led: of who has not answered since, no more is known than that.
    pub led_ms: u64,
    /// All members.
    pub members: Vec<Progress>,
    /// Whether a change is under way.
    pub change: Change,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipStep {
    /// Add a learner, or tell the group of its new name or address.
    Add {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where it is reached.
        address: NodeAddress,
    },
    /// Let these vote, and nobody else.
    Voters(BTreeSet<NodeId>),
    /// Let another one lead, because the leader is to go.
    HandOver {
        /// Who.
        to: NodeId,
    },
    /// Remove a member that does not vote.
    Expel {
        /// Who.
        node: NodeId,
    },
    /// Forget a node that was to go and is no member any more.
    Forget {
        /// Who.
        node: NodeId,
    },
}

/// The next step; none if all is as it should be, or can only become so later.
#[must_use]
pub fn plan(state: &ClusterState, group: &Group) -> Option<MembershipStep> {
    let view = View { state, group };
    if group.change == Change::UnderWay {
        return Some(MembershipStep::Voters(view.next_voters()));
    }
    if view.goes(group.leader)
        && let Some(to) = view.successor()
    {
        return Some(MembershipStep::HandOver { to });
    }
    if let Some(next) = view.possible_voters() {
        return Some(MembershipStep::Voters(next));
    }
    let expelled = group.members.iter().find(|one| view.goes(one.member.node) && !is_voter(one));
    if let Some(expelled) = expelled {
        return Some(MembershipStep::Expel { node: expelled.member.node });
    }
    let gone =
        |(id, node): &(&NodeId, &Node)| node.departure == Departure::Requested && view.member(**id).is_none();
    if let Some((&node, _)) = state.nodes.iter().find(gone) {
        return Some(MembershipStep::Forget { node });
    }
    view.unknown_to_the_group()
}

/// What a person has to know of a removal that does not come to an end by itself.
#[must_use]
pub fn obstacle(state: &ClusterState, group: &Group, node: NodeId) -> Option<&'static str> {
    let view = View { state, group };
    if !view.goes(node) || view.member(node).is_none_or(|member| !is_voter(member)) {
        return None;
    }
    if node == group.leader {
        let goes_on = view.successor().is_some() || view.possible_voters().is_some();
        return (!goes_on).then_some(
            "it leads, and no other server can take over: one that stays has to answer and to have caught up",
        );
    }
    let without = view.wanted_voters();
    if view.can_agree(&view.voters()) && view.can_agree(&without) {
        return None;
    }
    Some("too few of the other servers answer: without it they would have no majority")
}

struct View<'a> {
    state: &'a ClusterState,
    group: &'a Group,
}

fn is_voter(progress: &Progress) -> bool {
    progress.member.role == MemberRole::Voter
}

impl View<'_> {
    fn member(&self, node: NodeId) -> Option<&Progress> {
        self.group.members.iter().find(|one| one.member.node == node)
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.group.members.iter().filter(|one| is_voter(one)).map(|one| one.member.node).collect()
    }

    /// Whether a member has no business in the group: it is to go, is gone, or is no server any more.
    fn goes(&self, node: NodeId) -> bool {
        self.state
            .nodes
            .get(&node)
            .is_none_or(|node| node.departure == Departure::Requested || !node.roles.contains(&Role::Server))
    }

    fn silent_ms(&self, progress: &Progress) -> u64 {
        if progress.member.node == self.group.leader {
            return 0;
        }
        progress.silent_ms.unwrap_or(self.group.led_ms.max(HEALTHY_WITHIN_MS))
    }

    fn is_healthy(&self, progress: &Progress) -> bool {
        self.silent_ms(progress) < HEALTHY_WITHIN_MS
    }

    /// Whether a majority of these answers.
    fn can_agree(&self, voters: &BTreeSet<NodeId>) -> bool {
        let answer = voters.iter().filter_map(|&node| self.member(node)).filter(|one| self.is_healthy(one));
        answer.count() > voters.len() / 2
    }

    /// The leader first, then voters that answer, voters that are silent for a moment, learners that
    /// could vote, and voters that are lost: as many as make an odd number.
    fn wanted_voters(&self) -> BTreeSet<NodeId> {
        let mut pool: Vec<(u8, NodeId)> =
            self.group.members.iter().filter_map(|one| Some((self.rank(one)?, one.member.node))).collect();
        pool.sort_unstable();
        let count = pool.len().min(VOTERS_MAX);
        let odd = if count.is_multiple_of(2) { count.saturating_sub(1) } else { count };
        pool.into_iter().take(odd).map(|(_, node)| node).collect()
    }

    /// Who is to vote next: those that are wanted, and who leads, until it has handed over to one of them.
    fn next_voters(&self) -> BTreeSet<NodeId> {
        let mut next = self.wanted_voters();
        next.insert(self.group.leader);
        next
    }

    /// The same, if that is a change which majorities of before and after can agree to.
    fn possible_voters(&self) -> Option<BTreeSet<NodeId>> {
        let (voters, next) = (self.voters(), self.next_voters());
        (next != voters && self.can_agree(&voters) && self.can_agree(&next)).then_some(next)
    }

    fn rank(&self, progress: &Progress) -> Option<u8> {
        let node = progress.member.node;
        if self.goes(node) {
            return None;
        }
        match progress.member.role {
            _ if node == self.group.leader => Some(0),
            MemberRole::Voter if self.is_healthy(progress) => Some(1),
            MemberRole::Voter if self.silent_ms(progress) < REPLACED_AFTER_MS => Some(2),
            MemberRole::Voter => Some(4),
            MemberRole::Learner => self.could_vote(progress).then_some(3),
        }
    }

    fn could_vote(&self, progress: &Progress) -> bool {
        self.is_healthy(progress) && progress.matched.is_some() && progress.lag <= CAUGHT_UP_ENTRIES
    }

    /// The voter that lacks least, of those that stay and answer.
    fn successor(&self) -> Option<NodeId> {
        let leader = self.group.leader;
        let fit = |one: &&Progress| {
            let node = one.member.node;
            node != leader && is_voter(one) && !self.goes(node) && self.is_healthy(one)
        };
        let best = self.group.members.iter().filter(fit).min_by_key(|one| (one.lag, one.member.node));
        best.map(|one| one.member.node)
    }

    /// A server of the state that the group does not know, or knows by another name or address.
    fn unknown_to_the_group(&self) -> Option<MembershipStep> {
        self.state.nodes.iter().filter(|&(&id, _)| !self.goes(id)).find_map(|(&id, node)| {
            let address = node.address.as_ref()?;
            let known = self.member(id).is_some_and(|one| {
                one.member.name == node.name.as_str() && one.member.address == address.as_str()
            });
            let step = MembershipStep::Add { node: id, name: node.name.clone(), address: address.clone() };
            (!known).then_some(step)
        })
    }
}

#[cfg(test)]
mod tests;
