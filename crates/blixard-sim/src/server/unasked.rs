//! A rule broken on purpose: a log whose leader believes that it leads, and asks nobody.

use blixard_core::ports::BoxStream;
use blixard_core::ports::consensus::{Applied, Consensus, LinearizeError, ProposeError, Standing};
use blixard_raft::RaftNode;
use blixard_types::LogPosition;
use futures_util::future::BoxFuture;

/// Says what it has applied, whoever leads by now.
pub(super) struct Unasked(pub(super) RaftNode);

impl Consensus for Unasked {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        self.0.propose(command)
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        let standing = self.0.standing();
        let believed = standing.applied.filter(|_| standing.leads());
        let answer = believed.ok_or(LinearizeError::NotLeader { leader: standing.leader });
        Box::pin(std::future::ready(answer))
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        self.linearize()
    }

    fn standing(&self) -> Standing {
        self.0.standing()
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        self.0.standings()
    }
}
