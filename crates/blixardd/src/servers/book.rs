//! The list of nodes in memory and on disk, and who is welcome by it.
//!
//! ```text
//! node.json (as it was at joining) ─▶ the servers' list ─▶ directory.json ─▶ the same after a restart
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use blixard_core::directory::{Directory, Listed};
use blixard_core::state::{PeerStanding, Role};
use blixard_pki::{PeerGate, PeerIdentity, PeerRefusal};
use blixard_proto::directory_to;
use blixard_types::{NodeAddress, NodeId, NodeName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::file;
use crate::identity::NodeFile;

/// Its name below the data directory. Only a node that is no server has it.
const FILE: &str = "directory.json";

/// The version of the format.
const VERSION: u32 = 1;

/// Why the list cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    /// The disk, or what is on it.
    #[error("cannot {step} {}", .path.display())]
    Step {
        /// What was done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    directory: Directory,
}

/// The list. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Book(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Servers, as they were when this node joined.
    first: Vec<(NodeId, NodeAddress)>,
    known: RwLock<Known>,
    there: watch::Sender<bool>,
}

/// Empty before the first list has come.
#[derive(Debug, Default)]
struct Known {
    directory: Option<Directory>,
    digest: Vec<u8>,
}

impl Book {
    /// Whether a node that was no server has left one.
    pub(crate) fn is_below(data_dir: &Path) -> bool {
        data_dir.join(FILE).exists()
    }

    /// Opens what is there.
    pub(crate) fn open(data_dir: &Path, member: &NodeFile) -> Result<Self, BookError> {
        let path = data_dir.join(FILE);
        let kept = file::read(&path, VERSION, |kept: &OnDisk| kept.version).map_err(step("read", &path))?;
        let directory = kept.map(|kept| kept.directory);
        let digest =
            directory.as_ref().map(|directory| directory_to(directory).1.0.to_vec()).unwrap_or_default();
        let there = watch::Sender::new(directory.is_some());
        let known = RwLock::new(Known { directory, digest });
        Ok(Self(Arc::new(Inner { path, first: member.servers.clone(), known, there })))
    }

    fn look<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The digest of the list; empty if there is none.
    pub(super) fn digest(&self) -> Vec<u8> {
        self.look(|known| known.digest.clone())
    }

    /// Where the servers are.
    pub(super) fn servers(&self) -> Vec<(NodeId, NodeAddress)> {
        let listed = self.look(|known| {
            let directory = known.directory.as_ref()?;
            Some(directory.servers().map(|(id, address)| (id, address.clone())).collect::<Vec<_>>())
        });
        // A list without servers helps nobody.
        listed.filter(|servers| !servers.is_empty()).unwrap_or_else(|| self.0.first.clone())
    }

    /// Where a node is, unless one of these names is its own.
    pub(crate) fn address(
        &self,
        node: NodeId,
        peers: &BTreeMap<NodeName, NodeAddress>,
    ) -> Option<NodeAddress> {
        let listed = self.look(|known| {
            let listed = known.directory.as_ref()?.nodes.get(&node)?;
            peers.get(&listed.name).or(listed.address.as_ref()).cloned()
        });
        let first = || self.0.first.iter().find(|(id, _)| *id == node).map(|(_, address)| address.clone());
        listed.or_else(first)
    }

    /// Whether a node is a server.
    pub(crate) fn is_server(&self, node: NodeId) -> bool {
        let role =
            |known: &Known| Some(known.directory.as_ref()?.nodes.get(&node)?.roles.contains(&Role::Server));
        self.look(role).unwrap_or_default()
    }

    /// Takes a list that a server has sent. On disk first: what was once refused stays refused after a restart. One
    /// that cannot be written counts all the same, and is asked for again.
    pub(super) fn keep(&self, directory: Directory, digest: Vec<u8>) -> Result<(), BookError> {
        let kept = OnDisk { version: VERSION, directory };
        let written = file::write(&self.0.path, &kept).map_err(step("write", &self.0.path));
        let digest = if written.is_ok() { digest } else { Vec::new() };
        let known = Known { directory: Some(kept.directory), digest };
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.0.there.send_replace(true);
        written
    }

    /// How a node is listed, if there is a list.
    pub(super) fn listed(&self, node: NodeId) -> Option<Listed> {
        self.look(|known| known.directory.as_ref()?.nodes.get(&node).cloned())
    }

    /// Waits until there is one.
    pub(crate) async fn await_list(&self) {
        // The sender lives as long as this.
        let _ = self.0.there.subscribe().wait_for(|there| *there).await;
    }
}

impl PeerGate for Book {
    fn admits(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        let standing =
            |known: &Known| known.directory.as_ref().map(|list| list.standing(peer.node, peer.serial));
        match self.look(standing) {
            // Nobody comes before there is a list; those that this node goes to show who they are.
            None | Some(PeerStanding::Member | PeerStanding::Newer) => Ok(()),
            Some(PeerStanding::Removed) => Err(PeerRefusal::Removed(peer.node)),
            Some(PeerStanding::Replaced) => Err(PeerRefusal::Replaced(peer.node)),
        }
    }

    fn counts(&self, peer: &PeerIdentity) -> bool {
        let standing = |known: &Known| Some(known.directory.as_ref()?.standing(peer.node, peer.serial));
        self.look(standing) == Some(PeerStanding::Member)
    }
}

fn step(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BookError + use<> {
    let path = path.to_owned();
    move |cause| BookError::Step { step, path, cause }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use blixard_core::ports::UnixMillis;
    use blixard_types::{CertificateSerial, ClusterId};

    use super::*;

    fn listed(name: &str, roles: &[Role], serial: u64) -> Listed {
        Listed {
            name: name.parse().unwrap(),
            roles: roles.iter().copied().collect(),
            address: Some(format!("{name}:7440").parse().unwrap()),
            certificates: [CertificateSerial(serial)].into(),
        }
    }

    fn member() -> NodeFile {
        NodeFile {
            version: NodeFile::VERSION,
            node: NodeId(3),
            cluster: ClusterId([7; 16]),
            servers: vec![(NodeId(1), "old:7440".parse().unwrap())],
        }
    }

    fn peer(node: u64, serial: u64) -> PeerIdentity {
        let (not_before, not_after) = (UnixMillis(0), UnixMillis(1));
        let (node, serial) = (NodeId(node), CertificateSerial(serial));
        PeerIdentity { node, cluster: ClusterId([7; 16]), serial, not_before, not_after }
    }

    fn directory() -> Directory {
        let host = listed("c", &[Role::Host], 4);
        Directory {
            nodes: [(NodeId(2), listed("b", &[Role::Server], 2)), (NodeId(3), host)].into(),
            highest_node: NodeId(4),
            highest_serial: CertificateSerial(6),
        }
    }

    #[test]
    fn the_servers_of_the_newest_list_are_asked_and_found_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path(), &member()).unwrap();
        assert_eq!(book.servers(), member().servers);
        assert!(book.digest().is_empty() && !Book::is_below(folder.path()));

        book.keep(directory(), directory_to(&directory()).1.0.to_vec()).unwrap();

        let again = Book::open(folder.path(), &member()).unwrap();
        for book in [book, again] {
            assert_eq!(book.servers(), [(NodeId(2), "b:7440".parse().unwrap())]);
            assert_eq!(book.address(NodeId(3), &[].into()), Some("c:7440".parse().unwrap()));
            let moved: NodeAddress = "10.0.0.3:7440".parse().unwrap();
            let peers = [("c".parse().unwrap(), moved.clone())].into();
            assert_eq!(book.address(NodeId(3), &peers), Some(moved));
            assert_eq!(book.digest(), directory_to(&directory()).1.0);
            assert!(book.is_server(NodeId(2)) && !book.is_server(NodeId(3)) && !book.is_server(NodeId(9)));
        }
        assert!(Book::is_below(folder.path()));
    }

    #[test]
    fn who_was_removed_is_refused_and_who_is_newer_than_the_list_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path(), &member()).unwrap();
        book.keep(directory(), Vec::new()).unwrap();
        book.admits(&peer(2, 2)).unwrap();
        assert!(matches!(book.admits(&peer(1, 1)), Err(PeerRefusal::Removed(NodeId(1)))));
        assert!(matches!(book.admits(&peer(4, 5)), Err(PeerRefusal::Removed(NodeId(4)))));
        assert!(matches!(book.admits(&peer(2, 1)), Err(PeerRefusal::Replaced(NodeId(2)))));
        book.admits(&peer(5, 7)).unwrap();
        book.admits(&peer(3, 8)).unwrap();
    }

    #[test]
    fn a_list_that_cannot_be_written_counts_and_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path(), &member()).unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        assert!(book.keep(directory(), vec![7; 32]).is_err());
        assert!(book.is_server(NodeId(2)) && book.digest().is_empty());
        assert!(book.admits(&peer(1, 1)).is_err());
    }

    #[test]
    fn a_list_of_a_later_program_or_a_torn_one_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        file::write(&path, &OnDisk { version: 2, directory: directory() }).unwrap();
        assert!(Book::open(folder.path(), &member()).is_err());
        fs::write(&path, "{").unwrap();
        assert!(Book::open(folder.path(), &member()).is_err());
    }
}
