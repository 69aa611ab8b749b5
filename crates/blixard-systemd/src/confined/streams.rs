//! The two pipes that a confined program prints into.
//!
//! Owns: reading them within their bounds. Refuses to know: units.

use std::io;
use std::os::fd::OwnedFd;

use blixard_core::ports::confined::{ConfinedError, LimitReached, Limits, StderrSink};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;

/// Bytes asked of a pipe at once: what a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// The ends that are read.
#[derive(Debug)]
pub(super) struct Streams {
    stdout: Receiver,
    stderr: Receiver,
}

/// The ends that are written to.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

pub(super) fn pipes() -> io::Result<(Streams, Ends)> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let streams = Streams {
        stdout: Receiver::from_owned_fd(stdout.into())?,
        stderr: Receiver::from_owned_fd(stderr.into())?,
    };
    Ok((streams, Ends { stdout: stdout_end.into(), stderr: stderr_end.into() }))
}

impl Streams {
    /// Reads both to their ends; gives standard output.
    pub(super) async fn read(self, limits: Limits, stderr: StderrSink<'_>) -> Result<Vec<u8>, ConfinedError> {
        let mut kept = Vec::new();
        let mut keep = |bytes: &[u8]| kept.extend_from_slice(bytes);
        tokio::try_join!(
            read(self.stdout, limits.stdout_max, &mut keep),
            read(self.stderr, limits.stderr_max, stderr)
        )?;
        Ok(kept)
    }
}

/// Hands on what comes, to the end, unless it is more than `max`.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    max: u64,
    sink: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), ConfinedError> {
    let mut chunk = vec![0; CHUNK];
    let mut seen = 0;
    loop {
        let count = stream
            .read(&mut chunk)
            .await
            .map_err(|cause| ConfinedError::Lost { reason: format!("its output cannot be read: {cause}") })?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        seen += count as u64;
        if seen > max {
            return Err(ConfinedError::Limit(LimitReached::Output(max)));
        }
        sink(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_of(bytes: &[u8], max: u64) -> (Result<(), ConfinedError>, Vec<u8>) {
        let mut seen = Vec::new();
        let result = read(bytes, max, &mut |chunk: &[u8]| seen.extend_from_slice(chunk)).await;
        (result, seen)
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end_if_it_is_not_longer_than_its_bound() {
        let (result, seen) = read_of(&[7; 1000], 1000).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(seen, [7; 1000]);
    }

    #[tokio::test]
    async fn one_byte_over_the_bound_is_an_error() {
        let (result, seen) = read_of(&[7; 1001], 1000).await;
        assert!(
            matches!(result, Err(ConfinedError::Limit(LimitReached::Output(1000)))),
            "{result:?}, {} bytes seen",
            seen.len()
        );
    }
}
