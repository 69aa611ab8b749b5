//! The leader keeps the consensus group as the state says it should be, one step at a time.

use std::time::Duration;

use blixard_core::command::{Command, MembershipCommand};
use blixard_core::membership::{Group, MembershipStep, plan};
use blixard_core::ports::UnixMillis;
use blixard_core::ports::members::MembershipError;

use crate::Server;

/// How often the leader looks; members fall silent without any change of the state.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs for as long as it is polled.
pub async fn run(server: Server) {
    let mut leads_since: Option<(u64, UnixMillis)> = None;
    loop {
        let standing = server.log.standing();
        if standing.leads() {
            let now = server.clock.wall();
            let (_, since) = *leads_since.get_or_insert((standing.term, now));
            if let Some(group) = group(&server, now.since(since))
                && let Some(step) = server.replica.read(|state| plan(state, &group))
            {
                take(&server, step).await;
            }
        }
        leads_since = leads_since.filter(|(term, _)| standing.leads() && *term == standing.term);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The group as this leader sees it; none if it does not lead.
pub(crate) fn group(server: &Server, led_ms: u64) -> Option<Group> {
    let standing = server.log.standing();
    let members = server.membership.progress()?;
    Some(Group { leader: standing.node, led_ms, members, change: standing.change })
}

async fn take(server: &Server, step: MembershipStep) {
    let said = format!("{step:?}");
    match attempt(server, step).await {
        Ok(()) => tracing::info!(step = said, "the consensus group has changed"),
        // The next look sees how it is now.
        Err(reason) => {
            tracing::warn!(step = said, reason, "the consensus group is not changed, trying again");
        }
    }
}

async fn attempt(server: &Server, step: MembershipStep) -> Result<(), String> {
    let text = |error: MembershipError| error.to_string();
    let membership = &server.membership;
    match step {
        MembershipStep::Add { node, name, address } => {
            membership.add_learner(node, name.to_string(), address.to_string()).await.map_err(text)
        }
        MembershipStep::Voters(voters) => membership.set_voters(voters).await.map_err(text),
        MembershipStep::HandOver { to } => membership.transfer_leadership(to).await.map_err(text),
        MembershipStep::Expel { node } => membership.remove(node).await.map_err(text),
        MembershipStep::Forget { node } => {
            let proposer = server.proposer();
            let command = Command::Membership(MembershipCommand::ForgetNode { node });
            let forgotten = proposer.propose(proposer.fresh_request(), command).await;
            forgotten.map(drop).map_err(|failure| failure.to_string())
        }
    }
}
