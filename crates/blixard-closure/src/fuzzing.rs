//! What `cargo fuzz` runs: everything that reads bytes of others. Each panics where a promise is broken.

use blixard_core::signature::NodeKey;
use blixard_proto::ManifestReader;
use blixard_proto::v1::ManifestPart;
use blixard_types::{ClosureRef, Sha256Hash};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::nar::hasher::NarHasher;
use crate::nar::pieces::{Chunk, NarStream, Piece, read_pieces};
use crate::{cache, import};

/// Messages of peers, frames and lines between daemon and importer.
pub fn wire(data: &[u8]) {
    let zero = Sha256Hash([0; 32]);
    if let Ok(part) = ManifestPart::decode(data)
        && let Ok(root) = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a".parse()
    {
        let closure = ClosureRef { root, nar_hash: zero, closure_digest: zero, path_count: 64, nar_size: 0 };
        let mut reader = ManifestReader::new(&closure);
        if reader.push(part).is_ok() {
            assert!(reader.finish().is_err(), "nothing has the digest 0");
        }
    }
    let (mut input, mut buffer) = (data, Vec::new());
    while let Ok(Some(_)) = import::frame::read(&mut input, &mut buffer) {}
    if let Ok(text) = std::str::from_utf8(data) {
        if let Some(record) = import::record::from_line(text) {
            assert_eq!(import::record::from_line(&import::record::to_line(&record)), Some(record));
        }
        let _ = import::Answer::parse(text);
    }
}

/// Words of the format, so that chance gets beyond its beginning.
const WORDS: [&[u8]; 16] = [
    b"nix-archive-1",
    b"(",
    b")",
    b"type",
    b"regular",
    b"directory",
    b"symlink",
    b"executable",
    b"",
    b"contents",
    b"target",
    b"entry",
    b"name",
    b"node",
    b"..",
    b"a/b",
];

/// Speaks the format: a byte is a word, a short text, or bytes as they come.
fn spoken(data: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), data);
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    };
    while let Some((first, more)) = rest.split_first() {
        let length = usize::from(first % 32).min(more.len());
        let (taken, left) = more.split_at(length);
        rest = match first / 32 {
            0..=3 => {
                text(&mut out, WORDS.get(usize::from(first % 16)).copied().unwrap_or_default());
                more
            }
            4 | 5 => {
                text(&mut out, taken);
                left
            }
            _ => {
                out.extend(taken);
                left
            }
        };
    }
    out
}

/// A NAR: whatever is accepted has the hash of its own bytes.
pub fn nar(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => read_nar(&Bytes::copy_from_slice(rest)),
        _ => read_nar(&spoken(data).into()),
    }
}

fn read_nar(data: &Bytes) {
    let (sender, chunks) = mpsc::channel(2);
    let sent = sender.try_send(Chunk { path: 0, data: data.clone(), last: true });
    assert!(sent.is_ok(), "there is room");
    let mut stream = NarStream::new(chunks);
    let _ = stream.next_nar();
    let (mut hasher, mut open, mut depth) = (NarHasher::new(), None, 0_u32);
    let read = read_pieces(&mut stream, |piece| {
        let some = |name: &[u8]| if depth == 0 { None } else { Some(name.to_vec()) };
        match piece {
            Piece::Directory { name } => {
                hasher.start_directory(some(name).as_deref());
                depth += 1;
            }
            Piece::Up => {
                hasher.end();
                depth -= 1;
            }
            Piece::Symlink { name, target } => hasher.symlink(some(name).as_deref(), target),
            Piece::File { name, executable, size } => {
                hasher.start_file(some(name).as_deref(), executable, size);
                open = Some((size, size));
            }
            Piece::Data(bytes) => {
                hasher.data(bytes);
                open = open.map(|(size, left)| (size, left - bytes.len() as u64));
            }
        }
        if let Some((size, 0)) = open {
            hasher.end_file(size);
            open = None;
        }
        Ok(())
    });
    if read.is_ok() {
        assert_eq!(hasher.finish(), Sha256Hash::of(data), "what was read is not what was sent");
    }
}

struct Unsigned;

impl blixard_core::ports::signer::Signer for Unsigned {
    fn key(&self) -> NodeKey {
        NodeKey([0; 32])
    }

    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }
}

/// Requests to the binary cache, and the records it writes.
pub fn narinfo(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    cache::fuzz(text);
    if let Some(record) = import::record::from_line(text)
        && let Ok(written) = cache::narinfo::write(&record, "key", &Unsigned)
    {
        let read = nix_narinfo::NarInfo::parse_in(&nix_derivation::StoreDir::default(), &written);
        assert!(read.is_ok_and(|read| read.nar_size() == record.nar_size), "{text}");
    }
}
