//! One run of `deploy`: from a locked flake to vms that are healthy.
//!
//! ```text
//! prepare: recall, or check source → evaluate; admit → build → root → list closures
//! propose: one command with references and specs
//! follow:  placing → starting → checking → healthy, told until each vm is final
//! ```
//! Up to `propose` nothing has changed and the caller's going away ends it; from there on the
//! deployment is in the state and goes on by itself.

mod define;
mod dry;
mod follow;
mod prepare;
mod recall;
mod size;

use std::sync::Arc;

use blixard_core::command::{Command, Deploy, DeployedVm, Outcome, TakeOver};
use blixard_core::ports::nix::{LockedSource, NixProgress, ProgressSink, Selection};
use blixard_core::principal::Principal;
use blixard_core::signature::{BuilderSignature, statement};
use blixard_core::state::SourceId;
use blixard_proto::v1::{DeployEvent, deploy_event};
use blixard_types::{DeploymentId, RequestId};
use tokio::sync::mpsc;
use tonic::Status;

use self::define::Defined;
pub(crate) use self::prepare::builder;
use self::prepare::{Prepared, prepare};
use crate::Server;
use crate::roots::{BuildGuard, BuildsInFlight};
use crate::status;

/// What a caller asks for, checked.
#[derive(Debug, Clone)]
pub(crate) struct DeployOrder {
    pub(crate) request: RequestId,
    pub(crate) by: Option<Principal>,
    pub(crate) id: SourceId,
    pub(crate) source: LockedSource,
    pub(crate) selection: Selection,
    pub(crate) take_over: TakeOver,
    pub(crate) effect: Effect,
}

/// Whether a deployment is made or only foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Real,
    DryRun,
}

/// Where events go. Closed when the caller has gone away.
pub(crate) type Events = mpsc::Sender<DeployEvent>;

/// Runs a deployment to its end.
pub(crate) async fn run(
    server: &Server,
    builds: &BuildsInFlight,
    order: DeployOrder,
    events: &Events,
) -> Result<(), Status> {
    if order.effect == Effect::DryRun {
        return dry::run(server, order, events).await;
    }
    // The request's id is the deployment's, so that the same call again is the same deployment.
    let deployment = DeploymentId(order.request.0);
    let guard = builds.begin(deployment);
    let Prepared { defined, memory } = prepare(server, deployment, &order, events).await?;
    let deployed = accept(server.clone(), guard, order, defined);
    // Its caller may go away: what the log may have is seen to its end all the same.
    let deployed = builds.see_through(deployed).await;
    let deployed =
        deployed.map_err(|_| Status::internal("the server has lost sight of the deployment"))??;
    send(events, blixard_proto::accepted(deployment, &deployed)).await;
    if let Some(memory) = memory {
        recall::remember(server, memory).await;
    }
    follow::follow(server, &deployed, events).await
}

/// Proposes what is built. Its roots stay until it is known what has become of that.
async fn accept(
    server: Server,
    guard: BuildGuard,
    order: DeployOrder,
    defined: Defined,
) -> Result<Vec<DeployedVm>, Status> {
    let (deployment, source, take_over) = (DeploymentId(order.request.0), order.id, order.take_over);
    let (vms, roots) = defined.into_parts();
    let builder = server.builder.as_ref().map(|builder| BuilderSignature {
        node: server.node,
        signature: builder.signer.sign(&statement(deployment, &vms)),
    });
    let command = Command::Deploy(Deploy { deployment, source, take_over, vms, builder });
    let deployed = match server.proposer().by(order.by).propose(order.request, command).await {
        Ok(Outcome::Deployed { vms, .. }) => vms,
        Ok(Outcome::Changed { .. } | Outcome::Unchanged | Outcome::Certified { .. }) => {
            return Err(Status::already_exists("the request id belongs to another call"));
        }
        Err(failure) => {
            if failure.may_be_applied() {
                guard.linger(Arc::clone(&server.consensus));
            }
            return Err(status::propose(&failure));
        }
    };
    roots.settle(&server, deployment, &deployed).await?;
    Ok(deployed)
}

/// Tells the caller. One who has gone away is no error: the work is dropped with the call.
async fn send(events: &Events, event: DeployEvent) {
    let _ = events.send(event).await;
}

async fn tell(events: &Events, event: deploy_event::Event) {
    send(events, DeployEvent { event: Some(event) }).await;
}

/// Passes Nix's progress on. A caller who does not read fast enough misses log lines, not results.
fn sink(events: &Events) -> ProgressSink {
    use deploy_event::{BuildLog, BuildStarted, Building, Event, Fetching, Message};
    let events = events.clone();
    std::sync::Arc::new(move |progress| {
        let event = match progress {
            NixProgress::Builds { done, expected } => Event::Building(Building { done, expected }),
            NixProgress::BuildStarted { drv } => Event::BuildStarted(BuildStarted { drv }),
            NixProgress::BuildLog { drv, line } => Event::BuildLog(BuildLog { drv, line }),
            NixProgress::Fetching { inputs } => Event::Fetching(Fetching { inputs }),
            NixProgress::Message { text } | NixProgress::Unlocked { text } => {
                Event::Message(Message { text })
            }
        };
        let _ = events.try_send(DeployEvent { event: Some(event) });
    })
}
