//! The host's own files: where they are, and where the work on them is done.

use std::io::{Error, Result};

use blixard_core::unit::HostLayout;

/// Where work is done that may wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// On a thread that may wait.
    Threads,
    /// In the task that asks: a simulation decides what comes first.
    Inline,
}

/// The files of one host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) layout: &'a HostLayout,
    pub(crate) offload: Offload,
}

impl Files<'_> {
    pub(crate) async fn blocking<T, W>(self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T> + Send + 'static,
    {
        match self.offload {
            Offload::Threads => tokio::task::spawn_blocking(work).await.map_err(Error::other)?,
            Offload::Inline => work(),
        }
    }
}
