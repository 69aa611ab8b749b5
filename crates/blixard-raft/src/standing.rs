//! How a node stands, from openraft's metrics.

use std::sync::Arc;

use blixard_core::ports::consensus::Standing;
use futures_util::stream::{self, BoxStream};
use openraft::RaftMetrics;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::log::Tail;
use crate::stop::StopCause;
use crate::types::{TypeConfig, node_id, position};

type Metrics = RaftMetrics<TypeConfig>;

/// Where a node's standing is read.
#[derive(Clone)]
pub(crate) struct Standings {
    pub(crate) metrics: WatchReceiverOf<TypeConfig, Metrics>,
    /// openraft's metrics give the last index without its term.
    pub(crate) tail: Arc<Tail>,
    pub(crate) stop: StopCause,
}

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

    fn standing(&self, metrics: &Metrics) -> Standing {
        Standing {
            node: node_id(metrics.id),
            term: metrics.current_term,
            leader: metrics.current_leader.map(node_id),
            last_log: self.tail.ends().last.map(position),
            applied: metrics.last_applied.map(position),
            snapshot: metrics.snapshot.map(position),
            voters: metrics.membership_config.voter_ids().map(node_id).collect(),
            stopped: metrics.running_state.as_ref().err().map(|fatal| self.stop.or(fatal)),
        }
    }
}

enum Step {
    First,
    After(Standing),
}
