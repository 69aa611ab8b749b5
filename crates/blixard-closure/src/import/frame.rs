//! The frames between the daemon and the importer: a kind, a lane, a length, and so many bytes.
//!
//! Owns: this format, written and read. Numbers are little-endian. Refuses to know: in which order
//! frames make sense.

use std::io::{self, Read};

use super::Order;
use crate::nar::pieces::Piece;

/// Most bytes of a frame: a record with 60,000 references.
const FRAME_MAX: usize = 4 << 20;
const HEADER: usize = 6;

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, lane: u8, order: Order<'_>) {
    match order {
        Order::Closure(text) => frame(out, b'c', lane, &[text]),
        Order::Record(text) => frame(out, b'r', lane, &[text]),
        Order::Check => frame(out, b'q', lane, &[]),
        Order::Begin(path) => frame(out, b'b', lane, &[&path.to_le_bytes()]),
        Order::Piece(Piece::Directory { name }) => frame(out, b'd', lane, &[name]),
        Order::Piece(Piece::Up) => frame(out, b'u', lane, &[]),
        Order::Piece(Piece::File { name, executable, size }) => {
            frame(out, b'f', lane, &[&[u8::from(executable)], &size.to_le_bytes(), name]);
        }
        Order::Piece(Piece::Data(bytes)) => frame(out, b'D', lane, &[bytes]),
        Order::Piece(Piece::Symlink { name, target }) => {
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            frame(out, b'l', lane, &[&length.to_le_bytes(), name, target]);
        }
        Order::End => frame(out, b'e', lane, &[]),
        Order::Abort => frame(out, b'a', lane, &[]),
        Order::Register => frame(out, b'R', lane, &[]),
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, lane: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[kind, lane]);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Reads a frame into the buffer; its lane and what it says. `None` at the end of the input.
///
/// # Errors
/// When the input ends within a frame, or when it is not one.
pub(crate) fn read<'a>(from: &mut impl Read, buffer: &'a mut Vec<u8>) -> io::Result<Option<(u8, Order<'a>)>> {
    let mut header = [0; HEADER];
    let first = from.read(&mut header)?;
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(header.get_mut(first..).unwrap_or_default())?;
    let [kind, lane, a, b, c, d] = header;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        return Err(invalid());
    }
    buffer.resize(length, 0);
    from.read_exact(buffer)?;
    Ok(Some((lane, parse(kind, buffer).ok_or_else(invalid)?)))
}

fn parse(kind: u8, payload: &[u8]) -> Option<Order<'_>> {
    let nothing = |order| payload.is_empty().then_some(order);
    match kind {
        b'c' => Some(Order::Closure(payload)),
        b'r' => Some(Order::Record(payload)),
        b'q' => nothing(Order::Check),
        b'b' => Some(Order::Begin(u32::from_le_bytes(payload.try_into().ok()?))),
        b'd' => Some(Order::Piece(Piece::Directory { name: payload })),
        b'u' => nothing(Order::Piece(Piece::Up)),
        b'f' => {
            let (&[executable], rest) = payload.split_first_chunk::<1>()?;
            let (size, name) = rest.split_first_chunk::<8>()?;
            let executable = match executable {
                0 => false,
                1 => true,
                _ => return None,
            };
            Some(Order::Piece(Piece::File { name, executable, size: u64::from_le_bytes(*size) }))
        }
        b'D' => Some(Order::Piece(Piece::Data(payload))),
        b'l' => {
            let (length, rest) = payload.split_first_chunk::<4>()?;
            let (name, target) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
            Some(Order::Piece(Piece::Symlink { name, target }))
        }
        b'e' => nothing(Order::End),
        b'a' => nothing(Order::Abort),
        b'R' => nothing(Order::Register),
        _ => None,
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a frame of an import")
}
