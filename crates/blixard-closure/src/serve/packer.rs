//! One caller's NARs, packed one after another on a thread that may block.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blixard_core::ports::Clock;
use blixard_core::transfer::Pace;
use blixard_proto::v1::NarPart;
use blixard_types::{Manifest, PathRecord};
use tokio::sync::mpsc;
use tonic::Status;

use crate::nar;

pub(super) enum Work {
    Pack(u32),
    Fail(Status),
}

pub(super) struct Packer {
    pub(super) manifest: Arc<Manifest>,
    pub(super) pace: Option<Arc<Mutex<Pace>>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sender: mpsc::Sender<Result<NarPart, Status>>,
}

impl Packer {
    /// Until nothing is asked for any more, or nobody takes what is sent.
    pub(super) fn run(&self, mut wanted: mpsc::Receiver<Work>) {
        while let Some(work) = wanted.blocking_recv() {
            let packed = match work {
                Work::Pack(path) => self.pack(path),
                Work::Fail(status) => Err(status),
            };
            if let Err(status) = packed {
                let _ = self.sender.blocking_send(Err(status));
                return;
            }
        }
    }

    fn pack(&self, path: u32) -> Result<(), Status> {
        let place = usize::try_from(path).unwrap_or(usize::MAX);
        let record: &PathRecord = self
            .manifest
            .records()
            .get(place)
            .ok_or_else(|| Status::out_of_range(format!("the closure has no path {path}")))?;
        nar::pack(record.path.as_path(), |data, last| {
            self.keep_pace(data.len());
            let sent = self.sender.blocking_send(Ok(NarPart { path, data, last }));
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        })
        .map_err(|error| Status::unavailable(format!("{}: {}", record.path, blixard_types::chain(&error))))
    }

    fn keep_pace(&self, bytes: usize) {
        let Some(pace) = &self.pace else { return };
        let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).take(bytes as u64, self.clock.boot());
        if wait > 0 {
            std::thread::sleep(Duration::from_millis(wait));
        }
    }
}
