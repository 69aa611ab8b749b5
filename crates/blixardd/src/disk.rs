//! The disk that the log is on.

use std::path::PathBuf;

use blixard_server::Disk;

/// The file system of a directory.
#[derive(Debug)]
pub(crate) struct DataDisk(pub(crate) PathBuf);

impl Disk for DataDisk {
    fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.0).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
