//! Brings the sources of a flake to the builder that deploys it.
//!
//! ```text
//! offer path and hash of each ─▶ wanted: what the builder lacks ─▶ for each: its NAR ─▶ taken ─▶ held
//! ```
//! Owns: what is sent, in pieces, so that no source is ever whole in memory. Refuses to know: how a source came
//! into the store; that is Nix's.

use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::upload_request::{NarEnd, Offer, Part};
use blixard_proto::v1::upload_response::Event;
use blixard_proto::v1::{OfferedSource, UploadRequest, UploadResponse};
use blixard_types::{Sha256Hash, StorePath};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::super::{Notes, Session};
use crate::error::Failure;
use crate::flake::{LocalInput, LockedFlake};

/// Pieces that wait to be sent: the next is read while one is on its way.
const PIECES_QUEUED: usize = 4;

/// The builder keeps the sources for as long as this is there.
pub(super) struct Held {
    _parts: mpsc::Sender<UploadRequest>,
    _answers: Streaming<UploadResponse>,
}

/// Sends what the builder lacks of a flake.
pub(super) async fn upload(session: &mut Session<'_>, flake: &LockedFlake) -> Result<Held, Failure> {
    let (parts, queue) = mpsc::channel(PIECES_QUEUED);
    let mut upload = Upload { parts, notes: &mut session.notes, flake };
    // The queue is empty: nobody has to read it yet.
    upload.send(Part::Offer(offer(flake))).await;
    let mut client = DeployServiceClient::new(session.channel.clone());
    let mut answers = client.upload(ReceiverStream::new(queue)).await?.into_inner();
    let Event::Wanted(wanted) = answer(&mut answers).await? else {
        return Err(unexpected().into());
    };
    let is_wanted = |input: &&LocalInput| wanted.paths.iter().any(|path| path == input.path.as_str());
    flake.nix.realise(&flake.inputs.iter().filter(is_wanted).collect::<Vec<_>>())?;
    for path in &wanted.paths {
        upload.source(path, &mut answers).await?;
    }
    Ok(Held { _parts: upload.parts, _answers: answers })
}

fn offer(flake: &LockedFlake) -> Offer {
    let own = OfferedSource { path: flake.source.path.clone(), nar_hash: flake.source.nar_hash.clone() };
    let of = |path: &StorePath, hash: &Sha256Hash| OfferedSource {
        path: path.to_string(),
        nar_hash: hash.to_string(),
    };
    let lock = flake.lock.iter().map(|lock| of(&lock.path, &lock.nar_hash));
    let inputs = flake.inputs.iter().map(|input| of(&input.path, &input.nar_hash));
    Offer { sources: std::iter::once(own).chain(lock).chain(inputs).collect() }
}

struct Upload<'a, 'n> {
    parts: mpsc::Sender<UploadRequest>,
    notes: &'a mut Notes<'n>,
    flake: &'a LockedFlake,
}

/// Whether the builder still listens.
#[derive(PartialEq, Eq)]
enum Listener {
    There,
    Gone,
}

impl Upload<'_, '_> {
    async fn send(&self, part: Part) -> Listener {
        match self.parts.send(UploadRequest { part: Some(part) }).await {
            Ok(()) => Listener::There,
            Err(_) => Listener::Gone,
        }
    }

    async fn nar(&mut self, path: &str) -> Result<(), Failure> {
        if !self.notes.is_watched() {
            self.notes.line(format_args!("uploading {path}"));
        }
        let mut dump = self.flake.nix.dump(path)?;
        let mut sent = 0;
        while let Some(bytes) = dump.next().await? {
            sent += bytes.len() as u64;
            // What the builder has against it comes as its answer.
            if self.send(Part::Nar(bytes)).await == Listener::Gone {
                break;
            }
            self.notes.foot(&format!("uploading {path} {} MiB", sent >> 20));
        }
        Ok(())
    }

    async fn source(&mut self, path: &str, answers: &mut Streaming<UploadResponse>) -> Result<(), Failure> {
        match self.flake.lock.as_ref().filter(|lock| lock.path.as_str() == path) {
            Some(lock) => {
                self.send(Part::Nar(lock.nar.clone())).await;
            }
            None => self.nar(path).await?,
        }
        self.send(Part::End(NarEnd {})).await;
        match answer(answers).await? {
            Event::Taken(taken) if taken.path == path => Ok(()),
            Event::Taken(_) | Event::Wanted(_) => Err(unexpected().into()),
        }
    }
}

async fn answer(answers: &mut Streaming<UploadResponse>) -> Result<Event, Status> {
    let answer = answers.message().await?.and_then(|answer| answer.event);
    answer.ok_or_else(|| Status::unavailable("the daemon has ended the upload"))
}

fn unexpected() -> Status {
    Status::internal("the daemon has answered to something else")
}
