//! `blixard deploy`: locks a flake, hands it over, and follows what becomes of it.
//!
//! ```text
//! lock (Nix, as the caller) → Deploy → evaluating → building → accepted → stages → finished
//! ```
//! Owns: the order of these steps and what each failure means to the caller. Refuses to know: evaluation
//! and placement, which are the daemon's. Up to `accepted` an interruption ends the deployment; from
//! there on it goes on by itself.

mod progress;

use std::io::Write;

use blixard_proto::v1::deploy_event::Event;
use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::{DeployEvent, DeployRequest};
use tonic::{Code, Status, Streaming};

use super::{Session, request_id};
use crate::args::DeployArgs;
use crate::error::{ErrorKind, Failure};
use crate::flake::{Nix, Selection};
use crate::output::{Format, json, lines};
use progress::{Ending, Progress};

/// A deployment that did not end as its user wants.
#[derive(Debug, thiserror::Error)]
enum DeployError {
    #[error("{failed} of {total} vms {verb} not come up{list}", verb = if *failed == 1 { "has" } else { "have" })]
    NotUp { failed: usize, total: usize, list: String },
    #[error("the daemon went away before the deployment had ended")]
    Lost,
}

pub(super) async fn run(session: &mut Session<'_>, args: DeployArgs, nix: &Nix) -> Result<(), Failure> {
    writeln!(session.err, "locking {}", args.flake.flake)?;
    let locked = nix.lock(&args.flake.flake)?;
    for line in lines(&locked.warnings) {
        writeln!(session.err, "{line}")?;
    }
    let mut progress = Progress::new(&locked.source.path, args.print_build_logs);
    let request = DeployRequest {
        request_id: request_id()?.to_vec().into(),
        source: Some(locked.source),
        attributes: match args.flake.selection {
            Selection::All => Vec::new(),
            Selection::One(name) => vec![name.to_string()],
        },
        take_over: args.take_over,
    };
    let mut client = DeployServiceClient::new(session.channel.clone());
    let answer = client.deploy(request).await;
    let mut events = answer.map_err(|status| failed(status, &progress))?.into_inner();
    let good = follow(session.err, &mut events, &mut progress).await?;
    finish(session, progress.end(good))
}

/// Tells every event; whether all is well comes back with the last.
async fn follow(
    err: &mut dyn Write,
    events: &mut Streaming<DeployEvent>,
    progress: &mut Progress,
) -> Result<bool, Failure> {
    loop {
        let event = match events.message().await {
            Ok(Some(DeployEvent { event: Some(Event::Finished(finished)) })) => return Ok(finished.good),
            Ok(Some(event)) => event,
            Ok(None) => return Err(with_whereabouts(lost(), progress)),
            Err(status) => return Err(failed(status, progress)),
        };
        if let Some(event) = event.event {
            progress.tell(err, event)?;
        }
    }
}

fn lost() -> Failure {
    Failure::new(ErrorKind::Unreachable, DeployError::Lost)
}

/// What the daemon refuses before it has accepted is the flake's fault where it says so: an evaluation
/// that fails is an invalid argument, a build that fails is an abort.
fn failed(status: Status, progress: &Progress) -> Failure {
    let of_flake = matches!(status.code(), Code::InvalidArgument | Code::Aborted);
    let mut failure = Failure::from(status);
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
    if session.format == Format::Json {
        json::write(session.out, &deployment)?;
    }
    let total = deployment.vms.len();
    if deployment.good {
        let plural = if total == 1 { "" } else { "s" };
        return Ok(writeln!(session.err, "deployed {total} vm{plural} ({})", deployment.deployment)?);
    }
    let list = bad.iter().map(|line| format!("\n  {line}")).collect();
    let error = DeployError::NotUp { failed: bad.len(), total, list };
    let hint = "`blixard vm show` and `blixard vm logs` tell more of each";
    Err(Failure::new(ErrorKind::NotThere, error).hint(hint))
}
