//! What this node proves itself with, and the authority, if this is a server.
//!
//! Owns: making the authority of a cluster once, keeping the node's certificate fresh, and telling the
//! listener when either has changed. The files are a few kilobytes and written a few times in a node's
//! life, so that writing them in place holds up nobody.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use blixard_core::command::{Command, MembershipCommand};
use blixard_core::ports::{Clock, UnixMillis};
use blixard_core::state::Role;
use blixard_pki::{Authority, Credentials, FileError, KeyFiles, SigningRequest};
use blixard_proto::v1::AuthorityRequest;
use blixard_proto::v1::peer_service_client::PeerServiceClient;
use blixard_types::{CertificateSerial, NodeAddress, NodeId, Sha256Hash};
use tokio::sync::watch;
use tonic::Status;

use crate::service::certify;
use crate::{Server, status};

/// How often a node looks whether its certificate is to be renewed.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// How soon it is asked for again when it was not given: a node that was switched off for long may have none that is valid.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Keys and certificates of this node.
#[derive(Debug)]
pub struct Keyring {
    files: KeyFiles,
    authority: RwLock<Option<Arc<Authority>>>,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
}

impl Keyring {
    /// Reads what is there.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn open(files: KeyFiles) -> Result<Self, FileError> {
        let authority = RwLock::new(files.authority()?.map(Arc::new));
        let credentials = watch::Sender::new(files.credentials()?.map(Arc::new));
        Ok(Self { files, authority, credentials })
    }

    /// The authority, if this server has its key.
    #[must_use]
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the node proves itself with, now and at each change.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.credentials.subscribe()
    }

    /// Keeps the authority that another server has handed over, or that was just made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_authority(&self, authority: Authority) -> Result<Arc<Authority>, FileError> {
        self.files.keep_authority(&authority)?;
        let authority = Arc::new(authority);
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&authority));
        Ok(authority)
    }

    /// Takes credentials that were just written by [`KeyFiles`].
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn reload(&self) -> Result<(), FileError> {
        self.credentials.send_replace(self.files.credentials()?.map(Arc::new));
        Ok(())
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &KeyFiles {
        &self.files
    }

    /// The certificate that this node shows.
    fn shown(&self) -> Option<CertificateSerial> {
        self.credentials.borrow().as_ref().map(|credentials| credentials.identity().serial)
    }

    /// Whether a third of the certificate's life or less is left.
    fn is_stale(&self, now: UnixMillis) -> bool {
        self.credentials.borrow().as_ref().is_some_and(|credentials| {
            let identity = credentials.identity();
            identity.not_after.since(now) <= identity.not_after.since(identity.not_before) / 3
        })
    }
}

/// Makes the cluster's authority and this node's certificate, whatever of it is missing, and says where
/// this node is reached. Gives the authority's fingerprint.
pub(crate) async fn found(server: &Server, address: &NodeAddress) -> Result<Sha256Hash, Status> {
    server.linearize().await?;
    let known = server.replica.read(|state| state.registry.authority);
    let authority = match (server.keyring.authority(), known) {
        (Some(authority), _) => authority,
        (None, Some(_)) => return Err(crate::service::no_key()),
        (None, None) => {
            let identity = server.replica.read(|state| state.identity);
            let cluster =
                identity.ok_or_else(|| Status::unavailable("the cluster has no identity yet"))?.cluster;
            let authority =
                Authority::create(cluster, server.clock.wall()).map_err(|error| internal(&error))?;
            server.keyring.keep_authority(authority).map_err(|error| internal(&error))?
        }
    };
    let fingerprint = authority.root().fingerprint();
    propose(server, MembershipCommand::AdoptAuthority { fingerprint }).await?;
    propose(server, MembershipCommand::SetAddress { node: server.node, address: address.clone() }).await?;
    if server.keyring.credentials.borrow().is_none() {
        renew(server).await?;
    }
    Ok(fingerprint)
}

async fn propose(server: &Server, command: MembershipCommand) -> Result<(), Status> {
    let proposer = server.proposer();
    let proposed = proposer.propose(proposer.fresh_request(), Command::Membership(command)).await;
    proposed.map(drop).map_err(|failure| status::propose(&failure))
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    Status::internal(blixard_types::chain(error))
}

/// Issues this server's next certificate.
async fn renew(server: &Server) -> Result<(), Status> {
    renew_by(&server.keyring, |request| issue_own(server, request)).await
}

/// Issues a certificate for this server.
async fn issue_own(server: &Server, request: SigningRequest) -> Result<Vec<u8>, Status> {
    certify(server, server.node, server.keyring.shown(), &request).await
}

/// Has the next certificate of this node issued (DER), and keeps it.
async fn renew_by<F>(keyring: &Keyring, certify: impl FnOnce(SigningRequest) -> F) -> Result<(), Status>
where
    F: Future<Output = Result<Vec<u8>, Status>>,
{
    let files = keyring.files();
    let key = files.next_key().map_err(|error| internal(&error))?;
    let request = key.signing_request().map_err(|error| internal(&error))?;
    let certificate = certify(request).await?;
    files.keep_credentials(&key, &certificate).map_err(|error| internal(&error))?;
    files.forget_next_key().map_err(|error| internal(&error))?;
    keyring.reload().map_err(|error| internal(&error))
}

/// Renews this server's certificate in time, for as long as it is polled.
pub async fn keep_fresh(server: Server) {
    let server = &server;
    keep_fresh_by(&server.keyring, server.clock.as_ref(), |request| issue_own(server, request)).await;
}

/// The same for any node: who asks another for its certificate says how.
pub async fn keep_fresh_by<F>(
    keyring: &Keyring,
    clock: &dyn Clock,
    certify: impl Fn(SigningRequest) -> F + Send,
) where
    F: Future<Output = Result<Vec<u8>, Status>> + Send,
{
    loop {
        let mut pause = LOOK_EVERY;
        if keyring.is_stale(clock.wall()) {
            match renew_by(keyring, &certify).await {
                Ok(()) => tracing::info!("the certificate of this node is renewed"),
                Err(status) => {
                    tracing::warn!(reason = status.message(), "the certificate of this node is not renewed");
                    pause = ASK_AGAIN;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Pause before the servers are asked again for the authority's key.
const NEXT_ROUND: Duration = Duration::from_secs(1);

/// Fetches the authority's key from another server, if this one lacks it; ends when it is here.
pub async fn fetch_authority(server: Server) {
    while server.keyring.authority().is_none() {
        let others: Vec<NodeId> = server.replica.read(|state| {
            // Before `cluster init` there is none.
            if state.registry.authority.is_none() {
                return Vec::new();
            }
            let servers = state.nodes.iter().filter(|(_, node)| node.roles.contains(&Role::Server));
            servers.map(|(&id, _)| id).filter(|&id| id != server.node).collect()
        });
        for other in others {
            match fetch_from(&server, other).await {
                Ok(()) => {
                    tracing::info!(from = %other, "the authority's key is here");
                    return;
                }
                Err(status) => {
                    let reason = status::first_line(&status);
                    tracing::info!(from = %other, reason, "the authority's key is not given");
                }
            }
        }
        tokio::time::sleep(NEXT_ROUND).await;
    }
}

async fn fetch_from(server: &Server, other: NodeId) -> Result<(), Status> {
    let root = server.keyring.files().root().map_err(|error| internal(&error))?;
    let root = root.ok_or_else(|| Status::internal("the authority's certificate is missing"))?;
    let channel = server.peers.channel(other).await?;
    let mut client = PeerServiceClient::new(channel);
    let asked = client.authority(AuthorityRequest {});
    let late = |_| Status::deadline_exceeded("no answer in time");
    let answer = tokio::time::timeout(FETCH_LIMIT, asked).await.map_err(late)??.into_inner();
    let authority = Authority::load(root, &answer.key).map_err(|error| internal(&error))?;
    server.keyring.keep_authority(authority).map_err(|error| internal(&error))?;
    Ok(())
}

/// How long a server may take to hand the key over.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
