//! Becoming a member: a token, a connection to a server that its fingerprint names, a certificate.
//!
//! Everything is kept before the node counts as a member, and its own name last. An interruption leaves a
//! key and a token that the cluster knows to belong together, and running it again goes on from there.

use std::path::Path;

use blixard_core::state::Roles;
use blixard_pki::{
    Credentials, CredentialsError, FileError, JoinToken, JoiningError, KeyFiles, NodeKey, Root, RootError,
    joining_client,
};
use blixard_proto::hint::hint_of;
use blixard_proto::v1::join_service_client::JoinServiceClient;
use blixard_proto::v1::{JoinRequest, JoinResponse};
use blixard_proto::{node_address, random_id, roles_to};
use blixard_types::{ClusterId, NodeAddress, NodeId, NodeName};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::{Endpoint, Uri};

use crate::identity::{IdentityError, NodeFile};

/// How long one server may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Why this machine has not joined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The cluster says no, and will say it again.
    #[error("the cluster refuses this machine: {reason}{}", .hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Refused {
        /// What it says.
        reason: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// None of the servers answers as one of this cluster; later one may.
    #[error("no server of the cluster can be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The keys.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The key.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The answer.
    #[error("the server's answer cannot be used")]
    Answer(#[from] AnswerError),
    /// The node's own file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What is wrong with a server's answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The authority's certificate.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Not the authority of the token.
    #[error("it is of another authority than the token")]
    OtherAuthority,
    /// A field.
    #[error(transparent)]
    Field(#[from] blixard_proto::ConvertError),
    /// The certificate is for another node.
    #[error("its certificate is not the one of this node")]
    OtherNode,
}

impl JoinError {
    /// Whether trying again can help without anybody doing something first.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// What a machine says of itself.
pub(crate) struct Applicant {
    pub(crate) name: NodeName,
    pub(crate) roles: Roles,
    pub(crate) address: Option<NodeAddress>,
}

/// Joins the cluster of this token; on return the node is a member, on disk, too.
pub(crate) async fn join(
    token: &JoinToken,
    applicant: &Applicant,
    data_dir: &Path,
) -> Result<NodeFile, JoinError> {
    let files = KeyFiles::below(data_dir);
    let key = files.next_key()?;
    let request = JoinRequest {
        secret: token.secret.0.to_vec().into(),
        signing_request: key.signing_request()?.0.into(),
        name: applicant.name.to_string(),
        roles: roles_to(&applicant.roles),
        address: applicant.address.as_ref().map(ToString::to_string),
    };
    let mut failures = Vec::new();
    for address in &token.addresses {
        match ask(token, address, request.clone()).await {
            Ok(response) => return keep(token, &files, &key, &response, data_dir),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Elsewhere(reason)) => failures.push(format!("{address}: {reason}")),
        }
    }
    Err(JoinError::Unreachable(failures))
}

enum Failure {
    Refused(JoinError),
    Elsewhere(String),
}

async fn ask(
    token: &JoinToken,
    address: &NodeAddress,
    request: JoinRequest,
) -> Result<JoinResponse, Failure> {
    let asked = async {
        let stream = TcpStream::connect((address.host(), address.port())).await;
        let stream = stream.map_err(|error| Failure::Elsewhere(error.to_string()))?;
        let stream = joining_client(token.fingerprint, stream).await;
        let stream = stream.map_err(|error| Failure::Elsewhere(handshake(&error)))?;
        let mut only = Some(TokioIo::new(stream));
        let connect = tower::service_fn(move |_: Uri| {
            let stream = only.take().ok_or(std::io::ErrorKind::ConnectionReset);
            std::future::ready(stream.map_err(std::io::Error::from))
        });
        let channel = Endpoint::from_static("http://blixard").connect_with_connector(connect).await;
        let channel = channel.map_err(|error| Failure::Elsewhere(error.to_string()))?;
        match JoinServiceClient::new(channel).join(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(match status.code() {
                Code::Unavailable | Code::Unknown | Code::Internal | Code::Aborted | Code::Cancelled => {
                    Failure::Elsewhere(status.message().to_owned())
                }
                _ => {
                    let (reason, hint) = (status.message().to_owned(), hint_of(&status));
                    Failure::Refused(JoinError::Refused { reason, hint })
                }
            }),
        }
    };
    let late = || Failure::Elsewhere(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

fn handshake(error: &JoiningError) -> String {
    let mut text = blixard_types::chain(error);
    if text.contains("UnknownIssuer") {
        text += " (it is not of the cluster that made the token)";
    }
    text
}

fn keep(
    token: &JoinToken,
    files: &KeyFiles,
    key: &NodeKey,
    response: &JoinResponse,
    data_dir: &Path,
) -> Result<NodeFile, JoinError> {
    let root = Root::new(response.root.to_vec()).map_err(AnswerError::from)?;
    if root.fingerprint() != token.fingerprint {
        return Err(AnswerError::OtherAuthority.into());
    }
    let cluster = random_id("cluster_id", &response.cluster_id).map_err(AnswerError::from)?;
    let (node, cluster) = (NodeId(response.node), ClusterId(cluster));
    let identity = Credentials::new(key, &response.certificate, &root)?.identity();
    if (identity.node, identity.cluster) != (node, cluster) {
        return Err(AnswerError::OtherNode.into());
    }
    let servers =
        response.servers.iter().map(|server| Ok((NodeId(server.node), node_address(&server.address)?)));
    let servers = servers.collect::<Result<_, blixard_proto::ConvertError>>().map_err(AnswerError::from)?;
    files.keep_root(&root)?;
    files.keep_credentials(key, &response.certificate)?;
    let file = NodeFile { version: NodeFile::VERSION, node, cluster, servers };
    file.write(data_dir)?;
    files.forget_next_key()?;
    Ok(file)
}
