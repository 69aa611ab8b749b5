//! Temporary roots: paths that no collection removes for as long as a child of ours lives.
//!
//! Owns: `nix-daemon --stdio`, and the little of its protocol that is needed. Source: the worker protocol
//! (`src/libstore/worker-protocol.hh`, `daemon.cc`). Version 1.32 is spoken: every Nix since 2.4 does.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use blixard_types::StorePath;

use super::registry::nix;

const HELLO: u64 = 0x6e69_7863;
const HELLO_BACK: u64 = 0x6478_696f;
const VERSION: u64 = 0x120;
const ADD_TEMP_ROOT: u64 = 11;
/// What an answer consists of: messages, of which this one is the last.
const LAST: u64 = 0x616c_7473;
const NEXT: u64 = 0x6f6c_6d67;
/// Questions that are asked before answers are read: fewer than fill a pipe.
const BATCH: usize = 256;
/// Longest text that is read from the daemon.
const TEXT_MAX: u64 = 1 << 20;

/// A child that holds temporary roots; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct TempRoots {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl TempRoots {
    pub(super) fn open(nix_daemon: &Path) -> io::Result<Self> {
        let mut child =
            nix(nix_daemon).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = child.stdin.take().zip(child.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
        let mut roots = Self { child, to: Some(to), from: BufReader::new(from) };
        roots.greet()?;
        Ok(roots)
    }

    fn greet(&mut self) -> io::Result<()> {
        self.send(&[HELLO])?;
        if self.number()? != HELLO_BACK {
            return Err(unexpected("it is no nix-daemon"));
        }
        let theirs = self.number()?;
        if theirs >> 8 != VERSION >> 8 || theirs < VERSION {
            return Err(unexpected(&format!("it speaks version {theirs:#x}")));
        }
        // No processor to be pinned to, no space to be kept.
        self.send(&[VERSION, 0, 0])?;
        self.messages()
    }

    /// From here on no collection removes these paths, whether they are there or not.
    pub(super) fn add(&mut self, paths: &[&StorePath]) -> io::Result<()> {
        for batch in paths.chunks(BATCH) {
            let mut question = Vec::new();
            for path in batch {
                let text = path.as_str().as_bytes();
                question.extend(ADD_TEMP_ROOT.to_le_bytes());
                question.extend((text.len() as u64).to_le_bytes());
                question.extend(text);
                question.resize(question.len().next_multiple_of(8), 0);
            }
            self.write(&question)?;
            for _ in batch {
                self.messages()?;
                if self.number()? != 1 {
                    return Err(unexpected("a path was not protected"));
                }
            }
        }
        Ok(())
    }

    fn messages(&mut self) -> io::Result<()> {
        loop {
            match self.number()? {
                LAST => return Ok(()),
                NEXT => drop(self.text()?),
                _ => return Err(unexpected("it reports a failure")),
            }
        }
    }

    fn send(&mut self, numbers: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        to.write_all(bytes)?;
        to.flush()
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.from.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > TEXT_MAX {
            return Err(unexpected("a text without end"));
        }
        let mut text = vec![0; usize::try_from(length).unwrap_or_default().next_multiple_of(8)];
        self.from.read_exact(&mut text)?;
        Ok(text)
    }
}

impl Drop for TempRoots {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}

fn unexpected(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
