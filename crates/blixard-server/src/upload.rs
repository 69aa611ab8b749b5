//! One call that brings sources to the builder and keeps them there while it lasts.
//!
//! ```text
//! offer ─▶ root each ─▶ wanted: what the store lacks ─▶ for each: pieces, end ─▶ taken ─▶ held ─▶ call ends
//! ```
//! Owns: the order of these, and that nothing of a call is kept longer than it. Refuses to know: how a
//! source is checked and registered, and what is deployed of it.

use std::collections::BTreeSet;
use std::time::Duration;

use blixard_core::ports::sources::ContentSource;
use blixard_core::roots::upload_root;
use blixard_proto::offered_source;
use blixard_proto::v1::upload_request::{NarEnd, Offer, Part};
use blixard_proto::v1::upload_response::{Event, Taken, Wanted};
use blixard_proto::v1::{UploadRequest, UploadResponse};
use blixard_types::{StorePath, UploadId};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::deploy::builder;
use crate::roots::BuildsInFlight;
use crate::{Builder, Server, status};

/// The source of a flake, and those of its inputs that are local to the caller.
const SOURCES_MAX: usize = 1000;

/// How long a caller may be silent while something is wanted of it.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Answers that wait for the caller: one for each source and one for the offer, read one by one.
pub(crate) const ANSWERS_QUEUED: usize = 8;

/// Takes what is wanted, and keeps what was offered until the caller ends the call.
pub(crate) async fn run(
    server: &Server,
    in_flight: &BuildsInFlight,
    parts: impl Stream<Item = Result<UploadRequest, Status>> + Send,
    answers: &mpsc::Sender<UploadResponse>,
) -> Result<(), Status> {
    let builder = builder(server)?;
    tokio::pin!(parts);
    let Some(Part::Offer(offer)) = next(&mut parts).await? else {
        return Err(Status::invalid_argument("an upload begins with what is offered"));
    };
    let offered = sources(&offer)?;
    let upload = UploadId(server.entropy.id());
    // The roots go when this does.
    let _guard = in_flight.begin_upload(upload);
    for source in wanted(builder, upload, offered, answers).await? {
        let path = source.path().to_string();
        take(builder, source, &mut parts).await?;
        answer(answers, Event::Taken(Taken { path })).await;
    }
    match parts.next().await.transpose()? {
        None => Ok(()),
        Some(_) => Err(Status::invalid_argument("nothing more is wanted")),
    }
}

fn sources(offer: &Offer) -> Result<Vec<ContentSource>, Status> {
    if offer.sources.len() > SOURCES_MAX {
        return Err(Status::invalid_argument(format!("more than {SOURCES_MAX} sources are offered")));
    }
    let sources: Result<BTreeSet<_>, _> = offer.sources.iter().map(offered_source).collect();
    Ok(sources?.into_iter().collect())
}

/// Roots all that is offered, and asks for what is not there. The roots come first: what is there by then stays,
/// and what comes stays as well.
async fn wanted(
    builder: &Builder,
    upload: UploadId,
    offered: Vec<ContentSource>,
    answers: &mpsc::Sender<UploadResponse>,
) -> Result<Vec<ContentSource>, Status> {
    let paths: Vec<StorePath> = offered.iter().map(|source| source.path().clone()).collect();
    let roots = paths.iter().map(|path| (upload_root(upload, path), path.clone())).collect();
    builder.store.reserve_roots(roots).await.map_err(|error| status::root(&error))?;
    let missing = builder.store.missing(paths).await.map_err(|error| status::nix_command(&error))?;
    let missing: BTreeSet<StorePath> = missing.into_iter().collect();
    let wanted: Vec<_> = offered.into_iter().filter(|source| missing.contains(source.path())).collect();
    let paths = wanted.iter().map(|source| source.path().to_string()).collect();
    answer(answers, Event::Wanted(Wanted { paths })).await;
    Ok(wanted)
}

async fn take(
    builder: &Builder,
    source: ContentSource,
    parts: &mut (impl Stream<Item = Result<UploadRequest, Status>> + Unpin),
) -> Result<(), Status> {
    let path = source.path().clone();
    let mut incoming = builder.inbox.take(source).await.map_err(|error| status::take(&error))?;
    while let Some(bytes) = piece(&path, parts).await? {
        incoming.piece(&bytes).await.map_err(|error| status::take(&error))?;
    }
    incoming.finish().await.map_err(|error| status::take(&error))?;
    tracing::info!(%path, "a source was uploaded");
    Ok(())
}

/// The next bytes, nothing after the last.
async fn piece(
    path: &StorePath,
    parts: &mut (impl Stream<Item = Result<UploadRequest, Status>> + Unpin),
) -> Result<Option<Bytes>, Status> {
    match next(parts).await? {
        Some(Part::Nar(bytes)) => Ok(Some(bytes)),
        Some(Part::End(NarEnd {})) => Ok(None),
        Some(Part::Offer(_)) => Err(Status::invalid_argument("an upload has one offer")),
        None => Err(Status::aborted(format!("the upload of {path} ended before it was whole"))),
    }
}

async fn next(
    parts: &mut (impl Stream<Item = Result<UploadRequest, Status>> + Unpin),
) -> Result<Option<Part>, Status> {
    let part = tokio::time::timeout(SILENCE_MAX, parts.next()).await;
    let silent = |_| Status::deadline_exceeded(format!("nothing was sent for {} s", SILENCE_MAX.as_secs()));
    match part.map_err(silent)?.transpose()? {
        None => Ok(None),
        Some(UploadRequest { part: Some(part) }) => Ok(Some(part)),
        Some(UploadRequest { part: None }) => Err(Status::invalid_argument("a part of the upload is empty")),
    }
}

/// A caller who has gone away is no error: the work is dropped with the call.
async fn answer(answers: &mpsc::Sender<UploadResponse>, event: Event) {
    let _ = answers.send(UploadResponse { event: Some(event) }).await;
}
