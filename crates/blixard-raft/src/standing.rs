//! How a node stands, from openraft's metrics.

use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::ports::consensus::Standing;
use blixard_core::ports::members::{Change, Member, MemberRole};
use futures_util::stream::{self, BoxStream};
use openraft::RaftMetrics;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::log::Tail;
use crate::stop::StopCause;
use crate::types::{StoredMembership, TypeConfig, node_id, position};

pub(crate) type Metrics = RaftMetrics<TypeConfig>;

/// Where a node's standing is read.
#[derive(Clone)]
pub(crate) struct Standings {
    pub(crate) metrics: WatchReceiverOf<TypeConfig, Metrics>,
    /// openraft's metrics give the last index without its term.
    pub(crate) tail: Arc<Tail>,
    pub(crate) stop: StopCause,
    /// The members of the newest membership that was looked at: it seldom changes, and all else often.
    pub(crate) members: Arc<Mutex<Known>>,
}

/// A membership, and what it says in our words.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<(Arc<StoredMembership>, Arc<[Member]>)>);

impl Standings {
    /// The standing now.
    pub(crate) fn now(&self) -> Standing {
        self.standing(&self.metrics.borrow_watched())
    }

    /// The standing now and at each change; ends after the one that says that the node has stopped.
    pub(crate) fn stream(self) -> BoxStream<'static, Standing> {
        let steps = stream::unfold((self, Step::First), |(mut this, step)| async move {
            let before = match step {
                Step::First => None,
                Step::After(standing) if standing.stopped.is_some() => return None,
                Step::After(standing) => Some(standing),
            };
            let next = this.next(before.as_ref()).await?;
            Some((next.clone(), (this, Step::After(next))))
        });
        Box::pin(steps)
    }

    /// The first standing that differs from `before`.
    async fn next(&mut self, before: Option<&Standing>) -> Option<Standing> {
        loop {
            let metrics = self.metrics.borrow_and_update().clone();
            let now = self.standing(&metrics);
            if before != Some(&now) {
                return Some(now);
            }
            self.metrics.changed().await.ok()?;
        }
    }

    /// The members, by their node.
    pub(crate) fn members(&self, metrics: &Metrics) -> Arc<[Member]> {
        let mut known = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Known(Some((membership, members))) = &*known
            && Arc::ptr_eq(membership, &metrics.membership_config)
        {
            return Arc::clone(members);
        }
        let membership = &metrics.membership_config;
        let role = |node: u64| {
            let votes = membership.voter_ids().any(|voter| voter == node);
            if votes { MemberRole::Voter } else { MemberRole::Learner }
        };
        let member = |(node, peer): (&u64, &crate::types::Peer)| Member {
            node: node_id(*node),
            name: peer.name.clone(),
            address: peer.address.clone(),
            role: role(*node),
        };
        let members: Arc<[Member]> = membership.nodes().map(member).collect();
        *known = Known(Some((Arc::clone(membership), Arc::clone(&members))));
        members
    }

    fn standing(&self, metrics: &Metrics) -> Standing {
        let joint = metrics.membership_config.get_joint_config().len() > 1;
        Standing {
            node: node_id(metrics.id),
            term: metrics.current_term,
            leader: metrics.current_leader.map(node_id),
            last_log: self.tail.ends().last.map(position),
            applied: metrics.last_applied.map(position),
            snapshot: metrics.snapshot.map(position),
            voters: metrics.membership_config.voter_ids().map(node_id).collect(),
            members: self.members(metrics),
            change: if joint { Change::UnderWay } else { Change::Settled },
            stopped: metrics.running_state.as_ref().err().map(|fatal| self.stop.or(fatal)),
        }
    }
}

enum Step {
    First,
    After(Standing),
}
