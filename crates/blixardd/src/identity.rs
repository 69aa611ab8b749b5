//! Who this node is, kept beside its log.

use std::io;
use std::path::{Path, PathBuf};

use blixard_types::{ClusterId, NodeAddress, NodeId, NodeName};
use serde::{Deserialize, Serialize};

use crate::file;

/// The node of a cluster of one.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);

/// Which node of which cluster this is, as `node.json` in the data directory says. A node that has founded
/// its cluster has none: it is the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// [`NodeFile::VERSION`].
    pub(crate) version: u32,
    /// The node.
    pub(crate) node: NodeId,
    /// Its cluster.
    pub(crate) cluster: ClusterId,
    /// Servers, as they were when this was written; a first address to ask at.
    pub(crate) servers: Vec<(NodeId, NodeAddress)>,
}

impl NodeFile {
    /// The version of the format.
    pub(crate) const VERSION: u32 = 1;

    /// Reads it, if it is there.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(NODE_FILE);
        let found = file::read(&path, Self::VERSION, |found: &Self| found.version);
        found.map_err(IdentityError::node_file("read", &path))
    }

    /// Writes it.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(NODE_FILE);
        file::write(&path, self).map_err(IdentityError::node_file("write", &path))
    }
}

const NODE_FILE: &str = "node.json";

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
    /// The node's file.
    #[error("cannot {step} {}", .path.display())]
    NodeFile {
        /// What was done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A cluster of its own that is in use.
    #[error(
        "this node has a cluster of its own, with vms or other nodes: it cannot join another. To give that \
         cluster up, stop its vms and blixardd, and move {} away", .0.display()
    )]
    InUse(PathBuf),
    /// Guests of another cluster.
    #[error(
        "microVMs run here that {} knows nothing of: {}. Is its disk mounted? If it is to begin anew, stop them first: \
         systemctl stop 'blixard-vm-*-run.service'", .data_dir.display(), .guests.join(", ")
    )]
    Guests {
        /// Their vms.
        guests: Vec<String>,
        /// Where the log and the node's file would be.
        data_dir: PathBuf,
    },
    /// Closures that another log speaks of.
    #[error(
        "{} keeps closures of microVMs that {} knows nothing of. Is its disk mounted? If this is to be a new cluster, remove \
         them first: rm -r {0}", .roots.display(), .data_dir.display()
    )]
    Roots {
        /// The folder.
        roots: PathBuf,
        /// Where the log would be.
        data_dir: PathBuf,
    },
    /// Nothing to be here.
    #[error(
        "this node is in no cluster, and without the role `server` it cannot found one: start it with \
         --join TOKEN, or add `server` to node.roles"
    )]
    Homeless,
    /// It was a server, and is configured to be none.
    #[error(
        "this node has joined as a server and holds a copy of the log: to make it a host that is none, take it out \
         with `blixard node remove`, move its data directory away, and let it join anew"
    )]
    JoinedAsServer,
    /// It was none, and is configured to be one.
    #[error(
        "this node has joined as a host that is no server: to make it one, take it out with `blixard node remove`, \
         move its data directory away, and let it join anew with a token for servers"
    )]
    JoinedAsHost,
    /// The host name cannot be read.
    #[error("cannot read the host name; set node.name in the configuration")]
    HostName(#[source] io::Error),
    /// A name that would be taken for a number.
    #[error(
        "{0} cannot be the name of a new node, because nodes are spoken of by their numbers, too; set node.name in the \
         configuration"
    )]
    Number(NodeName),
    /// The host name is no name for a node.
    #[error("the host name cannot be the node's name; set node.name in the configuration")]
    BadHostName(#[source] blixard_types::NameError),
}

impl IdentityError {
    /// Whether starting again cannot help before somebody has done something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::InUse(_)
            | Self::Guests { .. }
            | Self::Roots { .. }
            | Self::Homeless
            | Self::Number(_)
            | Self::JoinedAsServer
            | Self::JoinedAsHost => true,
            Self::DataDir { .. } | Self::NodeFile { .. } | Self::HostName(_) | Self::BadHostName(_) => false,
        }
    }

    fn node_file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| Self::NodeFile { step, path, cause }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_file_reads_back_and_a_later_version_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(NodeFile::read(folder.path()).unwrap(), None);
        let file = NodeFile {
            version: NodeFile::VERSION,
            node: NodeId(3),
            cluster: ClusterId([7; 16]),
            servers: vec![(NodeId(1), "n1:7440".parse().unwrap())],
        };
        file.write(folder.path()).unwrap();
        assert_eq!(NodeFile::read(folder.path()).unwrap().as_ref(), Some(&file));
        NodeFile { version: 2, ..file }.write(folder.path()).unwrap();
        assert!(NodeFile::read(folder.path()).is_err());
    }
}
