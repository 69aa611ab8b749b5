//! What transfers may take: speed, memory, and how many there are at once.
//!
//! ```text
//! a peer's share of a fetch's memory:  ½ on its way in HTTP/2's window   ¼ waiting as chunks
//!                                      ¼ being parsed and written to the importer
//! ```

use std::time::Duration;

use crate::nar::CHUNK;

/// A peer that was asked and sends nothing for so long is as good as gone.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(10);

/// What fetching may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Bytes a second, from all peers together; as fast as it goes if absent.
    pub bytes_per_s: Option<u64>,
    /// Peers that one closure is fetched from at once.
    pub peers: usize,
    /// Bytes that are held of what is on its way, from all peers together.
    pub memory: u64,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { bytes_per_s: None, peers: 3, memory: 32 << 20 }
    }
}

impl FetchLimits {
    /// The least memory for each peer: a quarter of it is a run of frames, a piece and a chunk.
    pub const MEMORY_MIN: u64 = 2 << 20;
    /// The most peers; each has a thread, and a few cannot be outrun by many.
    pub const PEERS_MAX: usize = 16;
    /// The least speed: a chunk within the time after which a peer counts as gone.
    pub const BYTES_PER_S_MIN: u64 = CHUNK as u64 / STALLED_AFTER.as_secs() + 1;

    fn share(&self) -> u64 {
        (self.memory / self.peers.max(1) as u64).max(Self::MEMORY_MIN)
    }

    /// What a peer may have sent that has not been read: HTTP/2's window, of a stream and of its connection.
    #[must_use]
    pub fn window(&self) -> u32 {
        u32::try_from(self.share() / 2).unwrap_or(i32::MAX as u32).min(i32::MAX as u32)
    }

    /// Chunks of a peer on their way from the network to the importer.
    pub(crate) fn chunks(&self) -> usize {
        usize::try_from(self.share() / 4).unwrap_or(usize::MAX) / CHUNK
    }
}

/// What serving may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Callers that are sent NARs at once; others wait.
    pub uploads: usize,
    /// Of them, streams to one node; more of it wait.
    pub uploads_per_node: usize,
    /// Bytes a second, for all of them together; as fast as it goes if absent.
    pub bytes_per_s: Option<u64>,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { uploads: 16, uploads_per_node: 2, bytes_per_s: None }
    }
}

impl ServeLimits {
    /// The most uploads: each has a thread and a megabyte.
    pub const UPLOADS_MAX: usize = 256;

    /// The least speed that so many uploads can share without one looking dead to its caller: each sends
    /// two chunks within the time after which a peer counts as gone.
    #[must_use]
    pub fn bytes_per_s_min(uploads: usize) -> u64 {
        (2 * CHUNK as u64).saturating_mul(uploads as u64).div_ceil(STALLED_AFTER.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_from_all_peers_fits_into_the_memory() {
        // A run of frames that is being written, the piece in it, and the buffer it was read into.
        let parsing = (256 + 128 + 128) << 10;
        for peers in 1..=FetchLimits::PEERS_MAX {
            for memory_mib in [2 * peers as u64, 32, 33, 100, 4096] {
                let limits = FetchLimits { peers, memory: memory_mib << 20, bytes_per_s: None };
                if limits.memory < FetchLimits::MEMORY_MIN * peers as u64 {
                    continue;
                }
                let held = u64::from(limits.window()) + (limits.chunks() * CHUNK) as u64 + parsing;
                assert!(held * peers as u64 <= limits.memory, "{limits:?}: {held} for each");
                assert!(limits.chunks() > 0 && u64::from(limits.window()) >= 1 << 20, "{limits:?}");
            }
        }
    }

    #[test]
    fn the_least_speed_gives_every_upload_a_chunk_before_it_looks_dead() {
        for uploads in [1, 2, 16, ServeLimits::UPLOADS_MAX] {
            let speed = ServeLimits::bytes_per_s_min(uploads);
            let for_each = speed * STALLED_AFTER.as_secs() / uploads as u64;
            assert!(for_each >= 2 * CHUNK as u64, "{uploads}: {for_each}");
        }
        assert!(FetchLimits::BYTES_PER_S_MIN * STALLED_AFTER.as_secs() >= CHUNK as u64);
    }
}
