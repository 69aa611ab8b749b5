//! The way to the keeper: lines on its standard input.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::process;

/// What the keeper reads its orders from.
#[derive(Debug)]
pub(crate) enum Orders {
    /// A pipe; its end is the end of the world.
    Pipe(Mutex<ChildStdin>),
    /// A FIFO that any process can write to.
    Fifo(PathBuf),
}

pub(super) fn fifo_path(world: &Path) -> PathBuf {
    world.join("orders")
}

impl Orders {
    pub(super) fn pipe(stdin: ChildStdin) -> Self {
        Self::Pipe(Mutex::new(stdin))
    }

    pub(super) fn fifo(world: &Path) -> anyhow::Result<Self> {
        let path = fifo_path(world);
        if !path.exists() {
            process::run(&["mkfifo", &path.display().to_string()])?;
        }
        Ok(Self::Fifo(path))
    }

    /// Gives one order.
    pub(crate) fn send(&self, order: &str) -> anyhow::Result<()> {
        let line = format!("{order}\n");
        match self {
            Self::Pipe(stdin) => {
                stdin.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
            }
            // Also open for reading: a FIFO without a reader would block for ever.
            Self::Fifo(path) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .and_then(|mut fifo| fifo.write_all(line.as_bytes())),
        }
        .with_context(|| format!("the keeper cannot be told to {order}: it is gone"))
    }
}
