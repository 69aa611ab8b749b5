//! Bodies of answers.

use std::io;

use blixard_types::PathRecord;
use bytes::{Buf as _, Bytes};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::range::Part;
use crate::nar;

/// Chunks that may wait for the network, 1 MiB.
const CHUNKS_QUEUED: usize = 4;

pub(super) type Body = BoxBody<Bytes, io::Error>;

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A part of a path's NAR, packed as it is read. The thread that does it ends with the body.
pub(super) fn packed(record: PathRecord, part: Part, permit: OwnedSemaphorePermit) -> Body {
    let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
    drop(tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut window = Window { skip: part.from, left: part.length };
        let packed = nar::pack(record.path.as_path(), |chunk, _| match window.cut(chunk) {
            Some(chunk) => sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            None if window.left == 0 => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        });
        if let Err(error) = packed
            && window.left > 0
        {
            // The caller sees a body that breaks off.
            let _ = sender.blocking_send(Err(error));
        }
    }));
    StreamBody::new(ReceiverStream::new(chunks).map(|chunk| chunk.map(Frame::data))).boxed()
}

/// What of a stream is wanted.
struct Window {
    skip: u64,
    left: u64,
}

impl Window {
    /// What of the next chunk is; `None` if nothing.
    fn cut(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        chunk.advance(skipped);
        self.skip -= skipped as u64;
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        (!chunk.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_out_of_chunks() {
        let mut window = Window { skip: 3, left: 4 };
        let chunks = ["ab", "cdef", "ghij", "k"].map(|chunk| Bytes::from_static(chunk.as_bytes()));
        let cut: Vec<u8> = chunks.into_iter().filter_map(|chunk| window.cut(chunk)).flatten().collect();
        assert_eq!(cut, b"defg");
        assert_eq!(window.left, 0);
    }
}
