//! One checkpoint file: writing it so that it is whole or absent, reading it so that damage is found.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::files::Files;
use crate::types::SnapshotMeta;

const MAGIC: [u8; 8] = *b"BLXCKPT\n";
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 32;
/// How much of a file is in memory while it is only checked.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The directory cannot be made, listed or synced.
    #[error("cannot use the checkpoint directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the checkpoint {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the checkpoint {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file is not a checkpoint.
    #[error("{} is not a checkpoint", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another program wrote it.
    #[error("the checkpoint {} has format version {found}, this program reads {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u8,
    },
    /// The file is shorter or longer than it says.
    #[error("the checkpoint {} is torn: {found} bytes instead of {expected}", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The bytes changed.
    #[error("the checkpoint {} does not match its checksum", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// What it says of itself cannot be read, though its checksum is right.
    #[error("the header of the checkpoint {} cannot be read", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The fixed part before the digest.
struct Lengths {
    header: u32,
    state: u64,
}

impl Lengths {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.header.to_be_bytes());
        bytes.extend_from_slice(&self.state.to_be_bytes());
        bytes
    }

    /// Bytes before the header.
    const PREFIX: usize = MAGIC.len() + 1 + 4 + 8 + DIGEST_BYTES;
}

/// Writes a checkpoint; when it returns, the file is whole and survives a crash.
pub(super) fn write(
    files: &dyn Files,
    path: &Path,
    meta: &SnapshotMeta,
    state: &[u8],
) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::Write { path: path.to_owned(), source };
    let header = serde_json::to_vec(meta).map_err(|e| failed(e.into()))?;
    let header_length = u32::try_from(header.len()).map_err(|e| failed(io::Error::other(e)))?;
    let lengths = Lengths { header: header_length, state: state.len() as u64 }.encode();
    let digest = digest(&lengths, &header, state);

    let temporary = temporary(path);
    let write = || -> io::Result<()> {
        let mut file = files.create(&temporary)?;
        for part in [lengths.as_slice(), digest.as_slice(), &header, state] {
            file.write_all(part)?;
        }
        file.sync()?;
        drop(file);
        files.rename(&temporary, path)
    };
    write().map_err(failed)?;
    sync_directory(files, path.parent().unwrap_or(Path::new(".")))
}

/// Makes the names in a directory survive a crash.
pub(super) fn sync_directory(files: &dyn Files, path: &Path) -> Result<(), CheckpointError> {
    files.sync_directory(path).map_err(|source| CheckpointError::Directory { path: path.to_owned(), source })
}

/// Where a checkpoint is before it is whole.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension(TEMPORARY)
}

/// The extension of a file that is not whole.
pub(super) const TEMPORARY: &str = "tmp";

/// Reads a checkpoint and checks all of it.
pub(super) fn read(files: &dyn Files, path: &Path) -> Result<(SnapshotMeta, Vec<u8>), CheckpointError> {
    let mut state = Vec::new();
    let meta = scan(files, path, |piece| state.extend_from_slice(piece))?;
    Ok((meta, state))
}

/// Checks all of a checkpoint and keeps none of it.
pub(super) fn check(files: &dyn Files, path: &Path) -> Result<SnapshotMeta, CheckpointError> {
    scan(files, path, |_| {})
}

/// Reads a file from end to end and gives its state away piece by piece; what was given away counts
/// only if this succeeds.
fn scan(
    files: &dyn Files,
    path: &Path,
    mut give: impl FnMut(&[u8]),
) -> Result<SnapshotMeta, CheckpointError> {
    let failed = |source| CheckpointError::Read { path: path.to_owned(), source };
    let mut file = files.open(path).map_err(failed)?;
    let found = files.size(path).map_err(failed)?;
    let mut start = Vec::with_capacity(Lengths::PREFIX);
    file.by_ref().take(Lengths::PREFIX as u64).read_to_end(&mut start).map_err(failed)?;
    let lengths = check_prefix(path, &start, found)?;
    // As long as the file itself, which was just compared, at most.
    let mut header = vec![0; lengths.header as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let (sealed, stated) = start.split_at(Lengths::PREFIX - DIGEST_BYTES);
    let mut digest = Sha256::new().chain_update(sealed).chain_update(&header);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = lengths.state;
    while left > 0 {
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact(piece).map_err(failed)?;
        digest.update(&*piece);
        give(piece);
        left -= length as u64;
    }
    if digest.finalize().as_slice() != stated {
        return Err(CheckpointError::Checksum { path: path.to_owned() });
    }
    serde_json::from_slice(&header)
        .map_err(|source| CheckpointError::Header { path: path.to_owned(), source })
}

/// Checks what a file says of itself against how long it is.
fn check_prefix(path: &Path, start: &[u8], found: u64) -> Result<Lengths, CheckpointError> {
    let path = path.to_owned();
    let Some((lengths, version)) = prefix(start) else {
        let expected = Lengths::PREFIX as u64;
        let ours = MAGIC.iter().zip(start).all(|(magic, byte)| magic == byte);
        return Err(if ours {
            CheckpointError::Torn { path, expected, found }
        } else {
            CheckpointError::Foreign { path }
        });
    };
    if version != VERSION {
        return Err(CheckpointError::Version { path, found: version });
    }
    let expected =
        (Lengths::PREFIX as u64).saturating_add(lengths.header.into()).saturating_add(lengths.state);
    if found == expected { Ok(lengths) } else { Err(CheckpointError::Torn { path, expected, found }) }
}

fn prefix(bytes: &[u8]) -> Option<(Lengths, u8)> {
    let (magic, rest) = bytes.get(..Lengths::PREFIX)?.split_first_chunk::<8>()?;
    let (&[version], rest) = rest.split_first_chunk::<1>()?;
    let (header, rest) = rest.split_first_chunk::<4>()?;
    let (state, _) = rest.split_first_chunk::<8>()?;
    let lengths = Lengths { header: u32::from_be_bytes(*header), state: u64::from_be_bytes(*state) };
    (*magic == MAGIC).then_some((lengths, version))
}

fn digest(lengths: &[u8], header: &[u8], state: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(lengths).chain_update(header).chain_update(state).finalize().into()
}
