//! What the keeper of leases proposes, each until its outcome is known.

use std::time::Duration;

use blixard_core::command::{Command, FenceCommand};
use blixard_core::lease::LeaseTimes;
use blixard_core::ports::consensus::ProposeError;
use blixard_types::NodeId;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::Server;
use crate::proposer::{ProposeFailure, Proposer};

/// Pause before it is asked again what became of a command.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Commands under way.
pub(super) struct Duties {
    proposer: Proposer,
    under_way: FuturesUnordered<BoxFuture<'static, Option<FenceCommand>>>,
    /// Which ones, so that none is proposed beside itself.
    known: Vec<FenceCommand>,
}

impl Duties {
    pub(super) fn new(server: &Server) -> Self {
        Self { proposer: server.proposer_here(), under_way: FuturesUnordered::new(), known: Vec::new() }
    }

    pub(super) fn propose(&mut self, duty: FenceCommand) {
        if self.known.contains(&duty) {
            return;
        }
        self.known.push(duty.clone());
        let proposer = self.proposer.clone();
        self.under_way.push(Box::pin(async move {
            carry_out(&proposer, &duty).await;
            Some(duty)
        }));
    }

    /// The next outcome that is known: the host, if one was to be given up. None if nothing is under way.
    pub(super) async fn next(&mut self) -> Option<Option<NodeId>> {
        let done = self.under_way.next().await?;
        let Some(done) = done else { return Some(None) };
        self.known.retain(|known| *known != done);
        match done {
            FenceCommand::NodeLost { node, .. } => Some(Some(node)),
            _ => Some(None),
        }
    }

    /// Has the state say what this server's configuration says.
    pub(super) fn set_times(&mut self, server: &Server, times: Option<LeaseTimes>) {
        let Some(times) = times else { return };
        let wanted = server.replica.read(|state| {
            state.identity.is_some() && state.fencing.times != times && state.fencing.settling.is_none()
        });
        if wanted {
            self.propose(FenceCommand::SetLeaseTimes { times });
        }
    }

    /// Hands the leadership to another voter.
    pub(super) fn step_down(&mut self, server: &Server) {
        let standing = server.log.standing();
        let Some(&to) = standing.voters.iter().find(|&&voter| voter != server.node) else { return };
        let membership = server.membership.clone();
        self.under_way.push(Box::pin(async move {
            if let Err(error) = membership.transfer_leadership(to).await {
                tracing::warn!(%to, %error, "the leadership is not handed over");
            }
            None
        }));
    }
}

/// Proposes a command until it is known what became of it. The same request is applied once.
async fn carry_out(proposer: &Proposer, duty: &FenceCommand) {
    let request = proposer.fresh_request();
    loop {
        match proposer.propose_when_there_is_room(request, Command::Fence(duty.clone())).await {
            Ok(_) => return tracing::info!(?duty, "done"),
            Err(ProposeFailure::Log(ProposeError::OutcomeUnknown | ProposeError::NoQuorum)) => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            // Rejected, or never in the log.
            Err(failure) => {
                return tracing::info!(?duty, reason = blixard_types::chain(&failure), "not done");
            }
        }
    }
}
