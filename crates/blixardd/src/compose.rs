//! The composition root: every adapter is made here and handed to those who need it.
//!
//! Two kinds of nodes are composed, of the same parts: one with the role server, whatever else it is ([`server`]), and a
//! host that is none and holds no log ([`host`]).

mod agent;
mod api;
mod host;
mod log;
mod member;
mod nix;
mod server;

use blixard_closure::SignerError;
use blixard_core::ports::units::UnitError;
use blixard_core::state::Role;
use blixard_host::AgentError;
use blixard_pki::{FileError, JoinTokenError};
use blixard_raft::{NodeStopped, OpenError};
use blixard_server::ProposeFailure;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::ClusterError;
use crate::config::Config;
use crate::identity::{IdentityError, prepare_data_dir};
use crate::incoming::make_room;
use crate::join::JoinError;
use crate::servers::BookError;
use crate::socket::SocketError;

/// Why the daemon did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Who this node is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// The file that should hold the token.
    #[error("cannot read the join token from {file} (`cluster.join_file`)")]
    TokenFile {
        /// The file.
        file: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Joining.
    #[error("this machine has not joined the cluster")]
    Join(#[from] JoinError),
    /// Keys and certificates.
    #[error("cannot use the keys of this node")]
    Keys(#[from] FileError),
    /// The list of nodes.
    #[error("cannot use the list of the cluster's nodes")]
    Book(#[from] BookError),
    /// Other nodes.
    #[error("cannot speak to other nodes")]
    Cluster(#[from] ClusterError),
    /// The log.
    #[error("cannot open the replicated log")]
    Open(#[from] OpenError),
    /// The log, later.
    #[error("the consensus node has stopped")]
    Stopped(#[from] NodeStopped),
    /// The first commands.
    #[error("cannot form a cluster of one")]
    Found(#[from] ProposeFailure),
    /// systemd.
    #[error("cannot use systemd")]
    Systemd(#[from] UnitError),
    /// The node's key.
    #[error(transparent)]
    Key(#[from] SignerError),
    /// The host agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The gRPC server.
    #[error("the API server has ended")]
    Serve(#[from] tonic::transport::Error),
    /// The machine does not tell something that every Linux does.
    #[error("cannot ask the kernel")]
    Kernel(#[from] std::io::Error),
    /// A part of the daemon panicked.
    #[error("a part of the daemon has ended unexpectedly")]
    Part(#[from] tokio::task::JoinError),
}

impl RunError {
    /// Whether starting again cannot help before somebody has done something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::Join(error) => error.is_final(),
            Self::Identity(error) => error.is_final(),
            _ => false,
        }
    }
}

/// Runs the daemon until it is told to end.
pub(crate) async fn run(config: Config, token: Option<String>) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    make_room();
    prepare_data_dir(&config.storage.data_dir)?;
    let member = tokio::select! {
        member = member::membership(&config, token) => member?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let told_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    if config.node.roles.contains(&Role::Server) {
        server::run(&config, member, told_to_end).await
    } else {
        host::run(&config, member.ok_or(IdentityError::Homeless)?, told_to_end).await
    }
}

/// What may end without the daemon ending.
async fn for_ever(work: impl Future<Output = ()>) -> Result<(), RunError> {
    work.await;
    std::future::pending().await
}
