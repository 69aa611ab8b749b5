//! The log as it is reached from any server: what this one may not do itself, the leader does for it.
//!
//! Owns: finding the leader, asking again when it changes, and giving up in time with one clear error.
//! Refuses to know: what a command means. Asking again is safe, because a command carries the id of the
//! call it comes from and is applied once.

use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::BoxStream;
use blixard_core::ports::consensus::{Applied, Consensus, LinearizeError, ProposeError};
use blixard_core::ports::consensus::{SharedConsensus, Standing};
use blixard_proto::v1::peer_service_client::PeerServiceClient;
use blixard_proto::v1::{ProposeRequest, ReadIndexRequest, propose_response, read_index_response};
use blixard_types::{LogPosition, NodeId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::transport::Channel;

/// Connects to any node of the cluster.
pub trait PeerChannels: Send + Sync + 'static {
    /// A channel to that node; whoever answers is that one.
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, Status>>;
}

/// How long a call looks for a leader that a majority follows. An election takes a fraction of a second,
/// so who finds none for this long is cut off, or too many servers are down.
const PATIENCE: Duration = Duration::from_secs(8);

/// Pause before asking again. Short beside an election.
const PAUSE: Duration = Duration::from_millis(25);

/// The log, through the leader.
pub struct Forwarding {
    log: SharedConsensus,
    peers: Arc<dyn PeerChannels>,
}

/// An attempt that may be made again.
enum Attempt<T, E> {
    Done(Result<T, E>),
    Again,
}

impl Forwarding {
    /// Reaches the leader from the server that holds this log.
    #[must_use]
    pub fn new(log: SharedConsensus, peers: Arc<dyn PeerChannels>) -> Self {
        Self { log, peers }
    }

    async fn write(&self, command: Vec<u8>) -> Result<Applied, ProposeError> {
        let attempts = async {
            loop {
                let standing = self.log.standing();
                if let Some(reason) = standing.stopped {
                    return Err(ProposeError::Stopped { reason });
                }
                let attempt = match standing.leader {
                    None => Attempt::Again,
                    Some(leader) if leader == standing.node => self.write_here(command.clone()).await,
                    Some(leader) => self.write_there(leader, command.clone()).await,
                };
                match attempt {
                    Attempt::Done(done) => return done,
                    Attempt::Again => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, attempts).await.unwrap_or(Err(ProposeError::NoQuorum))
    }

    async fn write_here(&self, command: Vec<u8>) -> Attempt<Applied, ProposeError> {
        match self.log.propose(command).await {
            Err(ProposeError::NotLeader { .. } | ProposeError::OutcomeUnknown) => Attempt::Again,
            done => Attempt::Done(done),
        }
    }

    async fn write_there(&self, leader: NodeId, command: Vec<u8>) -> Attempt<Applied, ProposeError> {
        use propose_response::Result as Answer;
        let Ok(channel) = self.peers.channel(leader).await else { return Attempt::Again };
        let request = ProposeRequest { command: command.into() };
        match PeerServiceClient::new(channel).propose(request).await.map(tonic::Response::into_inner) {
            Ok(response) => match response.result {
                Some(Answer::Applied(applied)) => {
                    // Who has written reads what was written, also here.
                    self.applied(applied.index).await;
                    let position = LogPosition { term: applied.term, index: applied.index };
                    Attempt::Done(Ok(Applied { outcome: applied.outcome.to_vec(), position }))
                }
                Some(Answer::NotLeader(_) | Answer::OutcomeUnknown(_)) | None => Attempt::Again,
            },
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                Attempt::Done(Err(ProposeError::Refused { reason: status.message().to_owned() }))
            }
            Err(_) => Attempt::Again,
        }
    }

    async fn read(&self, lease: Lease) -> Result<LogPosition, LinearizeError> {
        let attempts = async {
            loop {
                let standing = self.log.standing();
                if let Some(reason) = standing.stopped {
                    return Err(LinearizeError::Stopped { reason });
                }
                let attempt = match standing.leader {
                    None => Attempt::Again,
                    Some(leader) if leader == standing.node => self.read_here(lease).await,
                    Some(leader) => self.read_there(leader).await,
                };
                match attempt {
                    Attempt::Done(done) => return done,
                    Attempt::Again => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, attempts).await.unwrap_or(Err(LinearizeError::NoQuorum))
    }

    async fn read_here(&self, lease: Lease) -> Attempt<LogPosition, LinearizeError> {
        let read = match lease {
            Lease::Never => self.log.linearize(),
            Lease::IfHeld => self.log.linearize_by_lease(),
        };
        match read.await {
            Err(LinearizeError::NotLeader { .. } | LinearizeError::NoQuorum) => Attempt::Again,
            done => Attempt::Done(done),
        }
    }

    async fn read_there(&self, leader: NodeId) -> Attempt<LogPosition, LinearizeError> {
        use read_index_response::Result as Answer;
        let Ok(channel) = self.peers.channel(leader).await else { return Attempt::Again };
        let answer = PeerServiceClient::new(channel).read_index(ReadIndexRequest {}).await;
        match answer.map(|response| response.into_inner().result) {
            Ok(Some(Answer::Index(index))) => match self.applied(index).await {
                Some(position) => Attempt::Done(Ok(position)),
                None => Attempt::Again,
            },
            Ok(Some(Answer::NotLeader(_) | Answer::NoQuorum(_)) | None) | Err(_) => Attempt::Again,
        }
    }

    /// Waits until this server has applied that entry; none if it stops first.
    async fn applied(&self, index: u64) -> Option<LogPosition> {
        let mut standings = self.log.standings();
        while let Some(standing) = standings.next().await {
            if let Some(applied) = standing.applied.filter(|applied| applied.index >= index) {
                return Some(applied);
            }
        }
        None
    }
}

/// Whether a leader may answer a read without asking anybody.
#[derive(Debug, Clone, Copy)]
enum Lease {
    Never,
    IfHeld,
}

impl Consensus for Forwarding {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(self.write(command))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        Box::pin(self.read(Lease::Never))
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        Box::pin(self.read(Lease::IfHeld))
    }

    fn standing(&self) -> Standing {
        self.log.standing()
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        self.log.standings()
    }
}

#[cfg(test)]
mod tests;
