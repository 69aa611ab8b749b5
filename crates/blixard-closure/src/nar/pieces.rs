//! Reads a NAR stream as simple pieces. This is where bytes from peers are parsed: in the daemon, never
//! in the importer.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use nix_archive::nar::{Error, Event, decode_events_reader};
use tokio::sync::mpsc;

/// Most bytes of a file in one piece.
const DATA_MAX: usize = 128 << 10;

/// A piece of a tree. The root's name is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A folder begins.
    Directory { name: &'a [u8] },
    /// The folder that was begun last ends.
    Up,
    /// A file of this size begins; its data follows.
    File { name: &'a [u8], executable: bool, size: u64 },
    /// The next bytes of the file.
    Data(&'a [u8]),
    /// A link.
    Symlink { name: &'a [u8], target: &'a [u8] },
}

/// Why a stream gave no tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PiecesError {
    /// It is not a NAR.
    #[error(transparent)]
    Malformed(Error),
    /// It ended before its NAR did, because the connection did.
    #[error("the stream ended early")]
    Interrupted,
    /// Whoever takes the pieces takes no more.
    #[error(transparent)]
    Sink(io::Error),
}

/// Reads one NAR to its end.
pub(crate) fn read_pieces(
    stream: &mut NarStream,
    mut sink: impl FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<(), PiecesError> {
    let mut buffer = vec![0; DATA_MAX];
    let mut sink_error = None;
    let mut give = |piece: Piece<'_>, failed: &mut Option<io::Error>| {
        sink(piece).map_err(|error| {
            let kind = error.kind();
            *failed = Some(error);
            Error::Io(kind.into())
        })
    };
    let read = decode_events_reader(stream, |event| match event {
        Event::DirectoryStart { name } => {
            give(Piece::Directory { name: name.unwrap_or_default() }, &mut sink_error)
        }
        Event::DirectoryEnd { .. } => give(Piece::Up, &mut sink_error),
        Event::Symlink { name, target } => {
            give(Piece::Symlink { name: name.unwrap_or_default(), target }, &mut sink_error)
        }
        Event::Regular { name, executable, mut contents } => {
            let size = contents.size();
            give(Piece::File { name: name.unwrap_or_default(), executable, size }, &mut sink_error)?;
            let mut left = size;
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(DATA_MAX);
                let part = buffer.get_mut(..want).unwrap_or_default();
                let read = contents.read(part)?;
                if read == 0 {
                    return Err(Error::UnexpectedEof);
                }
                give(Piece::Data(part.get(..read).unwrap_or_default()), &mut sink_error)?;
                left -= read as u64;
            }
            Ok(())
        }
    });
    match (read, sink_error) {
        (_, Some(error)) => Err(PiecesError::Sink(error)),
        (Ok(()), None) => Ok(()),
        (Err(_), None) if stream.interrupted => Err(PiecesError::Interrupted),
        (Err(error), None) => Err(PiecesError::Malformed(error)),
    }
}

/// What a lane of a transfer brings: the chunks of one NAR after another.
#[derive(Debug)]
pub(crate) struct NarStream {
    chunks: mpsc::Receiver<Chunk>,
    now: Bytes,
    last: bool,
    interrupted: bool,
    path: u32,
}

/// A chunk of a NAR.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The place of its path in the manifest.
    pub(crate) path: u32,
    pub(crate) data: Bytes,
    /// Whether the NAR ends with it.
    pub(crate) last: bool,
}

impl NarStream {
    pub(crate) fn new(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self { chunks, now: Bytes::new(), last: true, interrupted: false, path: 0 }
    }

    /// Waits for the next NAR and says which path it is; `None` when none comes any more. The one before
    /// must have been read to its end.
    pub(crate) fn next_nar(&mut self) -> Option<u32> {
        self.last = false;
        self.now.clear();
        self.fill();
        (!self.interrupted).then_some(self.path)
    }

    /// Whether the next chunk is not there yet.
    pub(crate) fn is_idle(&self) -> bool {
        self.chunks.is_empty()
    }

    fn fill(&mut self) {
        while self.now.is_empty() && !self.last && !self.interrupted {
            match self.chunks.blocking_recv() {
                Some(chunk) => (self.path, self.now, self.last) = (chunk.path, chunk.data, chunk.last),
                None => self.interrupted = true,
            }
        }
    }
}

impl BufRead for NarStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill();
        Ok(&self.now)
    }

    fn consume(&mut self, amount: usize) {
        self.now.advance(amount.min(self.now.len()));
    }
}

impl Read for NarStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}
