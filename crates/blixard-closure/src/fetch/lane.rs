//! What one stream brings: parsed on a thread that may block, and handed to the importer.

use std::io;

use tokio::sync::mpsc;

use crate::import::Order;
use crate::import::client::{LaneWriter, Pipe};
use crate::nar::pieces::{Chunk, NarStream, PiecesError, read_pieces};

/// How a lane has ended.
#[derive(Debug)]
pub(super) enum LaneEnd {
    /// Nothing more came.
    Drained,
    /// What came is no NAR.
    Malformed { path: u32, reason: String },
    /// The importer takes nothing any more.
    NoImporter,
}

pub(super) fn run(pipe: Pipe, lane: u8, chunks: mpsc::Receiver<Chunk>) -> LaneEnd {
    let mut stream = NarStream::new(chunks);
    let mut writer = LaneWriter::new(pipe, lane);
    pump(&mut stream, &mut writer).unwrap_or(LaneEnd::NoImporter)
}

fn pump(stream: &mut NarStream, writer: &mut LaneWriter) -> io::Result<LaneEnd> {
    while let Some(path) = stream.next_nar() {
        writer.put(Order::Begin(path))?;
        match read_pieces(stream, |piece| writer.put(Order::Piece(piece))) {
            Ok(()) => writer.put(Order::End)?,
            Err(PiecesError::Sink(error)) => return Err(error),
            Err(PiecesError::Interrupted) => {
                writer.put(Order::Abort)?;
                writer.flush()?;
                return Ok(LaneEnd::Drained);
            }
            Err(PiecesError::Malformed(error)) => {
                writer.put(Order::Abort)?;
                writer.flush()?;
                return Ok(LaneEnd::Malformed { path, reason: error.to_string() });
            }
        }
        // Many small paths go in together; nothing waits here while nothing comes.
        if stream.is_idle() {
            writer.flush()?;
        }
    }
    writer.flush()?;
    Ok(LaneEnd::Drained)
}
