//! Who this node is, kept beside its log.

use std::io;
use std::path::{Path, PathBuf};

use blixard_types::{NodeId, NodeName};

/// The node of a cluster of one.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);

/// Why it is not known who this node is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory {}", .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The host name cannot be read.
    #[error("cannot read the host name; set node.name in the configuration")]
    HostName(#[source] io::Error),
    /// The host name is no name for a node.
    #[error("the host name cannot be the node's name; set node.name in the configuration")]
    BadHostName(#[source] blixard_types::NameError),
}

/// Makes the data directory, for root alone: the log holds what every guest is.
pub(crate) fn prepare_data_dir(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| IdentityError::DataDir { path: path.to_owned(), cause })
}

/// The configured name, or the first label of the host name.
pub(crate) fn node_name(configured: Option<NodeName>) -> Result<NodeName, IdentityError> {
    if let Some(name) = configured {
        return Ok(name);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(IdentityError::HostName)?;
    let label = host.trim().split('.').next().unwrap_or_default().to_lowercase();
    label.parse().map_err(IdentityError::BadHostName)
}
