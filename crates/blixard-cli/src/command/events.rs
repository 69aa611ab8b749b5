//! `blixard events` and `blixard watch`.

use blixard_proto::v1::WatchRequest;
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::watch_response::Answer;

use super::Session;
use crate::error::{ErrorKind, Failure};
use crate::output::cluster::{self, Event};
use crate::output::{Format, json};

/// What is known, and then the end.
pub(super) async fn known(session: &mut Session<'_>, since: Option<u64>) -> Result<(), Failure> {
    match follow(session, WatchRequest { after_revision: Some(since.unwrap_or(0)), known_only: true }).await?
    {
        // Without a wish, everything that is known begins where the forgotten ends.
        Some(oldest) if since.is_none() => {
            let request = WatchRequest { after_revision: Some(oldest), known_only: true };
            forgotten(follow(session, request).await?)
        }
        ended => forgotten(ended),
    }
}

/// What comes, until interrupted.
pub(super) async fn watch(session: &mut Session<'_>, since: Option<u64>) -> Result<(), Failure> {
    forgotten(follow(session, WatchRequest { after_revision: since, known_only: false }).await?)
}

/// Prints what comes; gives the oldest revision there is when what was asked for is forgotten.
async fn follow(session: &mut Session<'_>, request: WatchRequest) -> Result<Option<u64>, Failure> {
    let mut client = ClusterServiceClient::new(session.channel.clone());
    let mut answers = client.watch(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.answer {
            Some(Answer::Event(event)) => {
                let event = Event::from(event);
                match session.format {
                    Format::Json => json::write_line(session.out, &event)?,
                    Format::Table => cluster::event(session.out, &event)?,
                }
            }
            // Whoever reads along sees what there is.
            Some(Answer::CaughtUp(_)) => session.out.flush()?,
            Some(Answer::Compacted(compacted)) => return Ok(Some(compacted.oldest)),
            None => {}
        }
    }
    Ok(None)
}

fn forgotten(oldest: Option<u64>) -> Result<(), Failure> {
    let Some(oldest) = oldest else { return Ok(()) };
    let reason = format!("events up to revision {oldest} are forgotten");
    let hint = format!("list what there is with `vm list`, then go on with `--since {oldest}`");
    Err(Failure::new(ErrorKind::Refused, std::io::Error::other(reason)).hint(&hint))
}
