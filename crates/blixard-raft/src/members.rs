//! Changing who is in the consensus group, by openraft.
//!
//! Owns the translation of [`Membership`] and its errors. Every change of voters goes through a joint
//! configuration and can be ended by another leader. Refuses to decide who should be in.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::consensus::{Consensus as _, Standing};
use blixard_core::ports::members::{Member, MemberRole, Membership, MembershipError, Progress, StorageUse};
use blixard_types::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};

use crate::node::RaftNode;
use crate::standing::Metrics;
use crate::types::{Peer, TypeConfig, node_id};

/// A voter that lacks more entries than this is not handed the leadership.
const TRANSFER_LAG: u64 = 1_000;

/// How many of the longest election timeouts a transfer may take: the one who takes over stands at
/// once, but its vote has to be written on two disks.
const TRANSFER_TIMEOUTS: u32 = 10;

/// How many of the longest election timeouts a change waits for the one before it.
const SETTLE_TIMEOUTS: u32 = 5;

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl Membership for RaftNode {
    fn form(&self) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(self.form_alone())
    }

    fn add_learner(
        &self,
        node: NodeId,
        name: String,
        address: String,
    ) -> BoxFuture<'_, Result<(), MembershipError>> {
        let set = ChangeMembers::SetNodes(BTreeMap::from([(node.0, Peer { name, address })]));
        Box::pin(self.change(set, Retain::Yes))
    }

    fn caught_up(&self, node: NodeId, lag: u64) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(self.wait_for(node, lag))
    }

    fn set_voters(&self, voters: BTreeSet<NodeId>) -> BoxFuture<'_, Result<(), MembershipError>> {
        let voters = voters.into_iter().map(|node| node.0).collect();
        Box::pin(self.change(ChangeMembers::ReplaceAllVoters(voters), Retain::Yes))
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(self.remove_member(node))
    }

    fn transfer_leadership(&self, to: NodeId) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(self.hand_over(to))
    }

    fn progress(&self) -> Option<Vec<Progress>> {
        self.leader_progress()
    }

    fn storage(&self) -> BoxFuture<'_, Result<StorageUse, io::Error>> {
        let node = self.clone();
        let offload = self.offload().clone();
        Box::pin(async move { offload.run(move || node.files()).await.map_err(io::Error::other)? })
    }
}

/// Whether a voter that is one no longer stays as a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retain {
    Yes,
    No,
}

impl RaftNode {
    async fn form_alone(&self) -> Result<(), MembershipError> {
        let me = BTreeMap::from([(self.number(), self.peer().clone())]);
        match self.raft().initialize(me).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            // This node is in the set it names.
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(MembershipError::Stopped { reason: error.to_string() })
            }
            Err(RaftError::Fatal(fatal)) => {
                Err(MembershipError::Stopped { reason: self.stopped(&fatal).reason })
            }
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>, retain: Retain) -> Result<(), MembershipError> {
        let limit = self.longest_timeout() * SETTLE_TIMEOUTS;
        // Whether it has settled or not is openraft's to say.
        drop(tokio::time::timeout(limit, self.last_change_committed()).await);
        match self.raft().change_membership(change, retain == Retain::Yes).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.membership_error(error)),
        }
    }

    /// Waits until the last change is committed, or this node does not lead: a leader that has just been
    /// elected or has just formed its cluster needs a moment before it can change anything.
    async fn last_change_committed(&self) {
        let mut metrics = self.standings_source().metrics;
        loop {
            let settled = {
                let now = metrics.borrow_and_update();
                let ids = (now.membership_config.log_id(), now.committed_membership_config.log_id());
                now.replication.is_none() || ids.0 == ids.1
            };
            if settled || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    fn membership_error(&self, error: WriteError) -> MembershipError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                MembershipError::NotLeader { leader: to.leader_id.map(node_id) }
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                // The last: a leader that has not yet committed anything of its own term.
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                    MembershipError::InProgress
                }
                ChangeMembershipError::EmptyMembership(_) => MembershipError::NoVoters,
                ChangeMembershipError::LearnerNotFound(error) => {
                    MembershipError::NotAMember { node: node_id(error.node_id) }
                }
                // These answer requests that are never made here; "unknown" is always true.
                ChangeMembershipError::UnsupportedMembershipTransition(_)
                | ChangeMembershipError::NodeMetadataChanged(_) => MembershipError::OutcomeUnknown,
            },
            RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_),
            ) => MembershipError::OutcomeUnknown,
            RaftError::Fatal(fatal) => MembershipError::Stopped { reason: self.stopped(&fatal).reason },
        }
    }

    async fn remove_member(&self, node: NodeId) -> Result<(), MembershipError> {
        let standing = self.standing();
        if standing.leads() && standing.node == node {
            return Err(MembershipError::Leads { node });
        }
        let one = BTreeSet::from([node.0]);
        match role(&standing, node) {
            Some(MemberRole::Voter) => self.change(ChangeMembers::RemoveVoters(one), Retain::No).await,
            Some(MemberRole::Learner) => self.change(ChangeMembers::RemoveNodes(one), Retain::No).await,
            // Only the leader knows that there is nothing to remove.
            None if standing.leads() => Ok(()),
            None => Err(MembershipError::NotLeader { leader: standing.leader }),
        }
    }

    async fn wait_for(&self, node: NodeId, lag: u64) -> Result<(), MembershipError> {
        let mut metrics = self.standings_source().metrics;
        loop {
            // A new value may come while this one is looked at; it is seen at the next turn.
            drop(metrics.borrow_and_update());
            let Some(progress) = self.leader_progress() else {
                let standing = self.standing();
                return Err(match standing.stopped {
                    Some(reason) => MembershipError::Stopped { reason },
                    None => MembershipError::NotLeader { leader: standing.leader },
                });
            };
            match progress.into_iter().find(|progress| progress.member.node == node) {
                None => return Err(MembershipError::NotAMember { node }),
                Some(found) if found.matched.is_some() && found.lag <= lag => return Ok(()),
                Some(_) => {}
            }
            if metrics.changed().await.is_err() {
                let reason = "the consensus task has ended".to_owned();
                return Err(MembershipError::Stopped { reason });
            }
        }
    }

    async fn hand_over(&self, to: NodeId) -> Result<(), MembershipError> {
        let standing = self.standing();
        if standing.leader == Some(to) && standing.node == to {
            return Ok(());
        }
        let Some(progress) = self.leader_progress() else {
            return Err(MembershipError::NotLeader { leader: standing.leader });
        };
        match progress.into_iter().find(|progress| progress.member.node == to) {
            None => return Err(MembershipError::NotAMember { node: to }),
            Some(found) if found.member.role == MemberRole::Learner => {
                return Err(MembershipError::NotAVoter { node: to });
            }
            Some(found) if found.matched.is_none() || found.lag > TRANSFER_LAG => {
                let reason = format!("it lacks {} entries of the log", found.lag);
                return Err(MembershipError::NotTakenOver { node: to, reason });
            }
            Some(_) => {}
        }
        let stopped = |fatal| MembershipError::Stopped { reason: self.stopped(&fatal).reason };
        self.raft().trigger().transfer_leader(to.0).await.map_err(stopped)?;
        let limit = self.longest_timeout() * TRANSFER_TIMEOUTS;
        let Ok(taken) = tokio::time::timeout(limit, self.taken_over(to)).await else {
            // openraft takes no more writes once it has asked another to lead: in a new term it does.
            if self.standing().leads() {
                self.raft().trigger().elect(false).await.map_err(stopped)?;
            }
            let reason = format!("it did not lead within {} ms", limit.as_millis());
            return Err(MembershipError::NotTakenOver { node: to, reason });
        };
        taken
    }

    async fn taken_over(&self, to: NodeId) -> Result<(), MembershipError> {
        use futures_util::StreamExt as _;
        let term = self.standing().term;
        let mut standings = self.standings();
        while let Some(standing) = standings.next().await {
            if let Some(reason) = standing.stopped {
                return Err(MembershipError::Stopped { reason });
            }
            match standing.leader {
                Some(leader) if leader == to => return Ok(()),
                Some(leader) if standing.term > term => {
                    let reason = format!("node {leader} was elected");
                    return Err(MembershipError::NotTakenOver { node: to, reason });
                }
                _ => {}
            }
        }
        Err(MembershipError::Stopped { reason: "the consensus task has ended".to_owned() })
    }

    fn leader_progress(&self) -> Option<Vec<Progress>> {
        let source = self.standings_source();
        let metrics = source.metrics.borrow_watched().clone();
        let replication = metrics.replication.as_ref()?;
        let members = source.members(&metrics);
        let last = metrics.last_log_index;
        let of = |member: &Member| {
            let me = member.node.0 == metrics.id;
            let matched =
                if me { last } else { replication.get(&member.node.0).copied().flatten().map(|id| id.index) };
            let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
            Progress {
                member: member.clone(),
                matched,
                lag: entries(last).saturating_sub(entries(matched)),
                silent_ms: if me { Some(0) } else { silent_ms(&metrics, member.node.0) },
            }
        };
        Some(members.iter().map(of).collect())
    }
}

fn role(standing: &Standing, node: NodeId) -> Option<MemberRole> {
    standing.members.iter().find(|member| member.node == node).map(|member| member.role)
}

fn silent_ms(metrics: &Metrics, node: u64) -> Option<u64> {
    use openraft::async_runtime::Instant as _;
    let heard = (*metrics.heartbeat.as_ref()?.get(&node)?)?;
    u64::try_from(heard.elapsed().as_millis()).ok()
}
