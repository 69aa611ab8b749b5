//! `blixard deploy`: locks a flake, hands it over, and follows what becomes of it.
//!
//! ```text
//! lock (Nix, as the caller) → Upload what the builder lacks → Deploy → evaluating → building → accepted → stages → finished
//! ```
//! Owns: the order of these steps and what each failure means to the caller. Refuses to know: evaluation
//! and placement, which are the daemon's. Up to `accepted` an interruption ends the deployment; from
//! there on it goes on by itself.

mod plan;
mod progress;
mod upload;

use std::path::Path;
use std::pin::Pin;

use blixard_proto::position::position_of;
use blixard_proto::v1::deploy_event::Event;
use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::{DeployEvent, DeployRequest};
use tonic::{Code, Status, Streaming};

use super::{Notes, Session, request_id};
use crate::args::DeployArgs;
use crate::error::{ErrorKind, Failure};
use crate::flake::{Nix, Selection, local_tree, position_text};
use crate::output::{Format, json, lines};
use progress::{Ending, Progress};

/// A deployment that did not end as its user wants.
#[derive(Debug, thiserror::Error)]
enum DeployError {
    #[error("{failed} of {total} vms {verb} not come up\n  {list}", verb = if *failed == 1 { "has" } else { "have" })]
    NotUp { failed: usize, total: usize, list: String },
    #[error("the daemon went away before the deployment had ended")]
    Lost,
    #[error("interrupted")]
    Interrupted,
}

pub(super) async fn run(
    session: &mut Session<'_>,
    args: DeployArgs,
    nix: &Nix,
    interrupt: Pin<&mut dyn Future<Output = ()>>,
) -> Result<(), Failure> {
    session.notes.line(format_args!("locking {}", args.flake.flake));
    let locked = nix.lock(&args.flake.flake)?;
    lines(&locked.warnings).for_each(|line| session.notes.line(line));
    if locked.is_incomplete() {
        session.notes.line("hint: `nix flake lock` pins the inputs, so that every deployment gets the same");
    }
    let mut interrupt = interrupt;
    let held = tokio::select! {
        held = upload::upload(session, &locked) => held?,
        () = interrupt.as_mut() => return Err(interrupted(&Progress::new("", false))),
    };
    let tree = local_tree(&locked.source.id);
    let mut progress = Progress::new(&locked.source.path, args.print_build_logs);
    let (attributes, configurations) = match args.flake.selection {
        Selection::All => (Vec::new(), Vec::new()),
        Selection::One(name) => (vec![name.to_string()], Vec::new()),
        Selection::Configuration(name) => (Vec::new(), vec![name.to_string()]),
    };
    let request = DeployRequest {
        request_id: request_id()?.to_vec().into(),
        source: Some(locked.source.clone()),
        attributes,
        configurations,
        take_over: args.take_over,
        dry_run: args.dry_run,
    };
    let mut client = DeployServiceClient::new(session.channel.clone());
    let answer = client.deploy(request).await;
    let mut events = answer.map_err(|status| failed(status, &progress, tree.as_deref()))?.into_inner();
    let good = tokio::select! {
        // An end that is there already is told, interrupted or not.
        biased;
        good = follow(&mut session.notes, &mut events, &mut progress, tree.as_deref()) => Some(good?),
        () = interrupt => None,
    };
    drop(held);
    locked.nix.forget();
    if let Some(planned) = progress.planned() {
        return plan::write(session, planned);
    }
    match good {
        Some(good) => finish(session, progress.end(good)),
        None => Err(interrupted(&progress)),
    }
}

fn interrupted(progress: &Progress) -> Failure {
    let failure = Failure::new(ErrorKind::Interrupted, DeployError::Interrupted);
    if progress.is_accepted() {
        with_whereabouts(failure, progress)
    } else {
        failure.hint("the cluster had not said that it accepted the deployment; `blixard vm list` shows whether it has")
    }
}

/// Tells every event; whether all is well comes back with the last.
async fn follow(
    notes: &mut Notes<'_>,
    events: &mut Streaming<DeployEvent>,
    progress: &mut Progress,
    tree: Option<&Path>,
) -> Result<bool, Failure> {
    loop {
        let event = match events.message().await {
            Ok(Some(DeployEvent { event: Some(Event::Finished(finished)) })) => return Ok(finished.good),
            Ok(Some(event)) => event,
            Ok(None) => return Err(with_whereabouts(lost(), progress)),
            Err(status) => return Err(failed(status, progress, tree)),
        };
        if let Some(event) = event.event {
            progress.tell(notes, event);
        }
    }
}

fn lost() -> Failure {
    Failure::new(ErrorKind::Unreachable, DeployError::Lost)
}

/// What the daemon refuses before it has accepted is the flake's fault where it says so: an evaluation
/// that fails is an invalid argument, a build that fails is an abort.
fn failed(status: Status, progress: &Progress, tree: Option<&Path>) -> Failure {
    let of_flake = matches!(status.code(), Code::InvalidArgument | Code::Aborted);
    let position = position_of(&status);
    let mut failure = Failure::from(status);
    if let Some(position) = position {
        failure = failure.at(position_text(&position, tree));
    }
    if of_flake && !progress.is_accepted() {
        failure.kind = ErrorKind::Flake;
    }
    with_whereabouts(failure, progress)
}

fn with_whereabouts(failure: Failure, progress: &Progress) -> Failure {
    if progress.is_accepted() {
        return failure.hint("the deployment goes on by itself; `blixard vm list` shows how far it is");
    }
    failure
}

fn finish(session: &mut Session<'_>, ending: Ending) -> Result<(), Failure> {
    let Ending { deployment, bad } = ending;
    let written = match session.format {
        Format::Json => json::write(session.out, &deployment),
        Format::Table => Ok(()),
    };
    let total = deployment.vms.len();
    if deployment.good {
        let plural = if total == 1 { "" } else { "s" };
        session.notes.line(format_args!("deployed {total} vm{plural} ({})", deployment.deployment));
        return written;
    }
    // What became of the vms counts more than whether somebody reads it.
    let error = DeployError::NotUp { failed: bad.len(), total, list: bad.join("\n  ") };
    let hint = "`blixard vm show` and `blixard vm logs` tell more of each";
    Err(Failure::new(ErrorKind::NotThere, error).hint(hint))
}
