//! A closure on its way: which path is asked of which peer next.
//!
//! ```text
//!        ask                    landed
//! open ──────▶ asked of a peer ────────▶ landed
//!   ▲               │
//!   └── its peer has parted: broken, or caught with other bytes than the manifest says
//! ```
//! Owns: the queue that all peers share (largest first, so that no large path is left for the end), how
//! much is asked of a peer ahead of what it has sent, when a peer is tried again and when it is dropped.
//! Refuses to know: how anything is sent, checked or stored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use blixard_types::StorePath;

use crate::ports::BootMillis;
use crate::ports::nix::RootName;

/// Bytes that a peer is asked for ahead of what it has sent: enough for 1 Gbit/s at 60 ms.
pub const WINDOW_BYTES: u64 = 8 << 20;
/// Paths that a peer is asked for ahead: enough for small ones to fill a connection at 20 ms.
pub const WINDOW_PATHS: usize = 512;
/// How often in a row a peer may break without having delivered a path.
const TRIES: u32 = 4;
/// Pause before a peer is tried again, times the tries so far.
const PAUSE_MS: u64 = 500;
/// Space that stays free beside what is fetched: for Nix's database and what runs on the host.
const RESERVE_BYTES: u64 = 64 << 20;
/// What a path takes beside its NAR's bytes, about: blocks that are not full, folders.
const PATH_BYTES: u64 = 8 << 10;

/// A path, by its place in the manifest.
pub type PathIndex = u32;

/// A peer, by its place in the list of those that may have the closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerIndex(pub usize);

/// Why a peer serves no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The connection failed, or the peer cannot serve the closure now.
    #[error("{0}")]
    Broken(String),
    /// It has sent something else than the closure's reference pins. It is not asked again.
    #[error("sent something else than was asked for: {0}")]
    Lied(String),
}

/// What becomes of a peer that has parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// It is tried again after this pause.
    Again {
        /// In milliseconds.
        after_ms: u64,
    },
    /// It is not asked again in this transfer.
    Dropped,
}

/// What to do about a peer that could be asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Ask it for this path.
    Path(PathIndex),
    /// Enough has been asked of it: wait for what it sends.
    Full,
    /// Others have been asked for all that is left; if one of them fails there may be more.
    Nothing,
    /// Everything has landed.
    Done,
}

/// The state of one transfer.
#[derive(Debug, Clone)]
pub struct Transfer {
    sizes: BTreeMap<PathIndex, u64>,
    open: BTreeSet<(Reverse<u64>, PathIndex)>,
    landed: BTreeSet<PathIndex>,
    peers: Vec<Peer>,
    progress: Progress,
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Paths that have landed, and of how many.
    pub paths: (u64, u64),
    /// Bytes of their NARs, and of how many.
    pub bytes: (u64, u64),
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let ((paths, of_paths), (bytes, of_bytes)) = (self.paths, self.bytes);
        write!(out, "{paths} of {of_paths} paths, {} of {} MiB", mib(bytes), mib(of_bytes))
    }
}

#[derive(Debug, Clone, Default)]
struct Peer {
    asked: BTreeSet<PathIndex>,
    asked_bytes: u64,
    broken: u32,
    dropped: Option<PeerFault>,
}

impl Transfer {
    /// A transfer of these paths (with the sizes of their NARs) from this many peers.
    #[must_use]
    pub fn new(missing: impl IntoIterator<Item = (PathIndex, u64)>, peers: usize) -> Self {
        let sizes: BTreeMap<PathIndex, u64> = missing.into_iter().collect();
        let open = sizes.iter().map(|(&path, &size)| (Reverse(size), path)).collect();
        let progress = Progress { paths: (0, sizes.len() as u64), bytes: (0, sizes.values().sum()) };
        Self { sizes, open, landed: BTreeSet::new(), peers: vec![Peer::default(); peers], progress }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether everything has landed.
    pub fn is_done(&self) -> bool {
        self.progress.paths.0 == self.progress.paths.1
    }

    /// Whether a peer that asks now gets something else than [`Ask::Nothing`].
    pub fn has_work(&self) -> bool {
        self.is_done() || !self.open.is_empty()
    }

    /// What to ask of a peer next; what it gives counts as asked.
    pub fn ask(&mut self, peer: PeerIndex) -> Ask {
        if self.is_done() {
            return Ask::Done;
        }
        let (window_paths, window_bytes) = self.window();
        let Some(state) = self.peers.get_mut(peer.0).filter(|peer| peer.dropped.is_none()) else {
            return Ask::Nothing;
        };
        let Some(&(Reverse(size), path)) = self.open.first() else {
            return Ask::Nothing;
        };
        // One path may be larger than the window; it is asked for when nothing else is.
        let fits = state.asked.len() < window_paths && state.asked_bytes + size <= window_bytes;
        if !fits && !state.asked.is_empty() {
            return Ask::Full;
        }
        self.open.pop_first();
        state.asked.insert(path);
        state.asked_bytes += size;
        Ask::Path(path)
    }

    /// How many paths and bytes a peer is asked for ahead: what fills its connection, but never more than
    /// its share of the whole, or the first to connect would be asked for all of a small closure.
    fn window(&self) -> (usize, u64) {
        let peers = self.peers.iter().filter(|peer| peer.dropped.is_none()).count().max(1);
        let paths = self.sizes.len().div_ceil(peers).min(WINDOW_PATHS);
        let bytes = self.progress.bytes.1.div_ceil(peers as u64).min(WINDOW_BYTES);
        (paths, bytes)
    }

    /// A path has landed; that speaks for the peer that has delivered it. Should it have been asked of
    /// another peer meanwhile, or be open again, it is not needed there any more.
    pub fn landed(&mut self, peer: PeerIndex, path: PathIndex) {
        let Some(&size) = self.sizes.get(&path) else { return };
        if !self.landed.insert(path) {
            return;
        }
        self.open.remove(&(Reverse(size), path));
        for state in &mut self.peers {
            if state.asked.remove(&path) {
                state.asked_bytes -= size;
            }
        }
        if let Some(state) = self.peers.get_mut(peer.0) {
            state.broken = 0;
        }
        self.progress.paths.0 += 1;
        self.progress.bytes.0 += size;
    }

    /// A peer has parted: what it was asked for is open again.
    pub fn parted(&mut self, peer: PeerIndex, fault: PeerFault) -> Parting {
        let Some(state) = self.peers.get_mut(peer.0) else { return Parting::Dropped };
        for path in std::mem::take(&mut state.asked) {
            let size = self.sizes.get(&path).copied().unwrap_or_default();
            self.open.insert((Reverse(size), path));
        }
        state.asked_bytes = 0;
        state.broken += 1;
        if matches!(fault, PeerFault::Lied(_)) || state.broken >= TRIES {
            state.dropped = Some(fault);
            return Parting::Dropped;
        }
        Parting::Again { after_ms: PAUSE_MS * u64::from(state.broken) }
    }

    /// If no peer is left: why each was dropped.
    pub fn hopeless(&self) -> Option<Vec<(PeerIndex, PeerFault)>> {
        let faults = self.peers.iter().enumerate();
        let faults = faults.map(|(index, peer)| Some((PeerIndex(index), peer.dropped.clone()?)));
        faults.collect::<Option<Vec<_>>>().filter(|_| !self.is_done())
    }
}

/// A closure does not fit into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it does not fit: {paths} paths with {} MiB are missing, which takes {} MiB with a reserve, and {} MiB are \
     free in the store; `blixard gc` makes room",
    mib(*.missing), mib(*.needed), mib(*.free)
)]
pub struct NoRoom {
    /// Paths that are missing.
    pub paths: u64,
    /// Bytes of their NARs.
    pub missing: u64,
    /// What that takes.
    pub needed: u64,
    /// What is free.
    pub free: u64,
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Whether so much fits into so much free space.
///
/// # Errors
/// With the numbers.
pub fn check_room(paths: u64, missing: u64, free: u64) -> Result<(), NoRoom> {
    if paths == 0 {
        return Ok(());
    }
    let needed = missing.saturating_add(paths.saturating_mul(PATH_BYTES)).saturating_add(RESERVE_BYTES);
    if needed > free { Err(NoRoom { paths, missing, needed, free }) } else { Ok(()) }
}

/// Whether a closure may be served to a peer: only one that a root of ours keeps, so that it is a
/// generation's, and cannot be collected before it is sent.
#[must_use]
pub fn may_serve(roots: &[(RootName, StorePath)], closure: &StorePath) -> bool {
    roots.iter().any(|(_, path)| path == closure)
}

/// Keeps to a rate: how long to wait before so many more bytes.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_s: u64,
    /// When all that was allowed so far is through, in microseconds of the boot clock.
    through_us: u64,
}

impl Pace {
    /// A pace of so many bytes a second.
    #[must_use]
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), through_us: 0 }
    }

    /// Takes so many bytes, and gives how many milliseconds to wait for that.
    pub fn take(&mut self, bytes: u64, now: BootMillis) -> u64 {
        let now_us = now.0.saturating_mul(1000);
        let cost_us = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_s);
        let begin_us = self.through_us.max(now_us);
        self.through_us = begin_us.saturating_add(u64::try_from(cost_us).unwrap_or(u64::MAX));
        (begin_us - now_us).div_ceil(1000)
    }
}

#[cfg(test)]
mod tests;
