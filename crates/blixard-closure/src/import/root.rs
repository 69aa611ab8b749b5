//! The importer: what has to be root to put paths into the store.
//!
//! ```text
//! records ─▶ digest ─▶ temporary roots ─▶ what is missing ─▶ locks ─▶ leftovers
//!   ─▶ trees, each renamed into place once its hash is right ─▶ one registration ─▶ held until the pipe closes
//! ```
//! Owns: this order, and every check of what is then in the store. Refuses to know: the network, peers,
//! what the closure is for. Single-threaded; ends with its input.
//!
//! The order is Nix's: a temporary root protects what is asked for afterwards, and a tree that is being
//! made has the hash part of its path in its name, or a collection would remove it.

mod leftover;
mod locks;
mod place;
mod registry;
mod temp_roots;

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

use blixard_types::{ClosureRef, Manifest, PathRecord, Sha256Hash, StorePath};
use rustix::fs::Mode;

use super::{Answer, Order, frame, record};
use locks::Locks;
use place::{Landing, Places, Trouble};
use temp_roots::TempRoots;

/// Bytes read from the pipe at once.
const READ_AT_ONCE: usize = 1 << 20;
/// Paths of one closure, at most.
const PATHS_MAX: usize = 1 << 20;

/// What the importer uses.
#[derive(Debug, Clone)]
pub struct ImporterOptions {
    /// The program `nix-store`.
    pub nix_store: PathBuf,
    /// The program `nix-daemon`.
    pub nix_daemon: PathBuf,
}

/// Why an import has failed. Nothing is registered then.
#[derive(Debug, thiserror::Error)]
pub enum ImporterError {
    /// The pipe.
    #[error("lost contact with the daemon")]
    Pipe(#[source] std::io::Error),
    /// The daemon says something that makes no sense.
    #[error("the daemon has sent something that cannot be: {0}")]
    Protocol(String),
    /// The records are not the closure.
    #[error("the records are not the closure that is to be imported: {0}")]
    Records(String),
    /// A step on the store.
    #[error("cannot {step}")]
    Store {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl ImporterError {
    fn store(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Store { step, cause }
    }
}

/// Imports one closure: orders come in, answers go out, a line each. Returns when the input has ended.
///
/// # Errors
/// When the import has failed; the reason was then answered, too.
pub fn run(options: &ImporterOptions, input: impl Read, mut output: impl Write) -> Result<(), ImporterError> {
    let mut input = BufReader::with_capacity(READ_AT_ONCE, input);
    let result = import(options, &mut input, &mut output);
    if let Err(error) = &result {
        let _ = answer(&mut output, &Answer::Failed { reason: blixard_types::chain(error) });
    }
    result
}

fn import(
    options: &ImporterOptions,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<(), ImporterError> {
    let Some(manifest) = read_manifest(input)? else { return Ok(()) };
    let paths: Vec<&StorePath> = manifest.records().iter().map(|record| &record.path).collect();
    // On a host that has never used Nix this makes the store, too.
    let mut roots = TempRoots::open(&options.nix_daemon).map_err(ImporterError::store("ask nix-daemon"))?;
    let store = place::open_store().map_err(ImporterError::store("make the store writable"))?;
    roots.add(&paths).map_err(ImporterError::store("protect the paths from a collection"))?;
    let step = "ask the store what it has";
    let missing = registry::missing(&options.nix_store, &paths).map_err(ImporterError::store(step))?;
    let mut locks = Locks::take(&missing).map_err(ImporterError::store("lock the paths"))?;
    // Whoever had a lock may have made its path meanwhile.
    let missing = registry::missing(&options.nix_store, &missing).map_err(ImporterError::store(step))?;
    let index = |path: &&StorePath| paths.binary_search(path).ok().and_then(|at| u32::try_from(at).ok());
    let missing: BTreeMap<u32, &PathRecord> = missing
        .iter()
        .filter_map(index)
        .zip(missing.iter().filter_map(|path| find(&manifest, path)))
        .collect();
    let mut places = Places::new(&store, missing);
    places.take_leftovers().map_err(ImporterError::store("look at what is left of an earlier import"))?;
    let free = place::free_bytes(&store).map_err(ImporterError::store("ask for the free space"))?;
    answer(output, &Answer::Missing { free, paths: places.open().collect() })?;
    let received = receive(input, output, &mut places, (options, &mut locks));
    // What landed before a disk was full is taken over by the next import; half a tree only takes room.
    places.clean_up();
    drop(locks);
    received?;
    // Only now: whoever holds the pipe has made a permanent root.
    drop(roots);
    Ok(())
}

fn find<'a>(manifest: &'a Manifest, path: &StorePath) -> Option<&'a PathRecord> {
    let records = manifest.records();
    records.get(records.binary_search_by(|record| record.path.cmp(path)).ok()?)
}

/// Takes trees until all is registered and the pipe is closed.
fn receive(
    input: &mut impl Read,
    output: &mut impl Write,
    places: &mut Places<'_>,
    (options, locks): (&ImporterOptions, &mut Locks),
) -> Result<(), ImporterError> {
    let mut buffer = Vec::new();
    while let Some((lane, order)) = frame::read(input, &mut buffer).map_err(ImporterError::Pipe)? {
        let landing = match order {
            Order::Begin(path) => places.begin(lane, path),
            Order::Piece(piece) => places.piece(lane, piece),
            Order::End => places.end(lane),
            Order::Abort => places.abort(lane),
            Order::Register => {
                register(places, options)?;
                *locks = Locks::default();
                answer(output, &Answer::Registered)?;
                continue;
            }
            Order::Closure(_) | Order::Record(_) | Order::Check => Err(Trouble::Order("a second closure")),
        };
        match landing {
            Ok(Landing::GoesOn) => {}
            Ok(Landing::Landed(path)) => answer(output, &Answer::Landed { lane, path })?,
            Ok(Landing::Refused(path, reason)) => answer(output, &Answer::Refused { lane, path, reason })?,
            Err(Trouble::Order(what)) => return Err(ImporterError::Protocol(what.to_owned())),
            Err(Trouble::Write(cause)) => return Err(ImporterError::store("write into the store")(cause)),
        }
    }
    Ok(())
}

/// All or nothing: a path whose references are not there is never registered.
fn register(places: &mut Places<'_>, options: &ImporterOptions) -> Result<(), ImporterError> {
    if places.open().next().is_some() {
        return Err(ImporterError::Protocol("it wants to register while paths are missing".to_owned()));
    }
    let records = places.take_landed();
    registry::load(&options.nix_store, &records).map_err(ImporterError::store("register the paths"))
}

/// The closure and its records, checked; `None` if the daemon has gone before it said all.
fn read_manifest(input: &mut impl Read) -> Result<Option<Manifest>, ImporterError> {
    let protocol = |what: &str| ImporterError::Protocol(what.to_owned());
    let (mut closure, mut records, mut buffer) = (None, Vec::new(), Vec::new());
    loop {
        let Some((_, order)) = frame::read(input, &mut buffer).map_err(ImporterError::Pipe)? else {
            return Ok(None);
        };
        match order {
            Order::Closure(text) if closure.is_none() => {
                closure = Some(read_closure(text).ok_or_else(|| protocol("no closure"))?);
            }
            Order::Record(text) if records.len() < PATHS_MAX => {
                let text = std::str::from_utf8(text).map_err(|_| protocol("a record that is no text"))?;
                records.push(record::from_line(text).ok_or_else(|| protocol("no record"))?);
            }
            Order::Check => break,
            _ => return Err(protocol("something else than records")),
        }
    }
    let (root, digest) = closure.ok_or_else(|| protocol("records of no closure"))?;
    let manifest = Manifest::new(root, records).map_err(|error| ImporterError::Records(error.to_string()))?;
    if manifest.digest() != digest {
        return Err(ImporterError::Records("their digest is another".to_owned()));
    }
    Ok(Some(manifest))
}

fn read_closure(text: &[u8]) -> Option<(StorePath, Sha256Hash)> {
    let (root, digest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some((record::path(root)?, digest.parse().ok()?))
}

/// How a closure is named in the first frame.
pub(crate) fn closure_line(closure: &ClosureRef) -> String {
    format!("{} {}", closure.root.basename(), closure.closure_digest)
}

fn answer(output: &mut impl Write, answer: &Answer) -> Result<(), ImporterError> {
    writeln!(output, "{answer}").and_then(|()| output.flush()).map_err(ImporterError::Pipe)
}

/// Leaves the network, and mounts for itself; the process must have one thread.
///
/// # Errors
/// When the kernel refuses.
pub fn isolate() -> std::io::Result<()> {
    use rustix::thread::UnshareFlags;
    rustix::process::umask(Mode::empty());
    #[expect(deprecated, reason = "unsafe only with FILES, which is not asked for")]
    rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)?;
    place::keep_mounts_private()
}
