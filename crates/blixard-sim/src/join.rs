//! A machine that joins the cluster of a token, as `blixardd` does it, but for TLS.

use std::time::Duration;

use blixard_pki::{Credentials, JoinToken, KeyFiles, NodeKey, Root};
use blixard_proto::roles_to;
use blixard_proto::v1::join_service_client::JoinServiceClient;
use blixard_proto::v1::{JoinRequest, JoinResponse};
use blixard_types::NodeId;

use crate::audit::Violation;
use crate::server::{self, Channels};
use crate::shared::{Phase, Shared};

/// What says that a machine is a member.
const MEMBER: &str = "member";
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Joins, unless it has. With the same key each time, so that it is let in once.
pub(crate) async fn join(shared: &Shared, id: NodeId) {
    let Some(ground) = shared.ground(id) else { return };
    let member = ground.folder().join(MEMBER);
    if member.exists() {
        return;
    }
    let (files, dice) = (KeyFiles::below(&ground.folder()), shared.dice.fork());
    let channels = Channels::new(shared.net.clone(), id);
    let done = loop {
        tokio::time::sleep(dice.millis(200, 2000)).await;
        let Some(token) = shared.people.token().filter(|_| shared.phase() >= Phase::Chaos) else { continue };
        let Some(server) = dice.pick(&shared.founders()) else { continue };
        let asked = files
            .next_key()
            .map_err(anyhow::Error::from)
            .and_then(|key| Ok((request(&token, id, &key)?, key)));
        let (request, key) = match asked {
            Ok(asked) => asked,
            Err(error) => break Err(error),
        };
        let mut client = JoinServiceClient::new(channels.make(server));
        if let Ok(Ok(response)) = tokio::time::timeout(PATIENCE, client.join(request)).await {
            break keep(&token, &files, &key, &response.into_inner(), id);
        }
    };
    match done.and_then(|()| Ok(std::fs::write(member, "")?)) {
        Ok(()) => shared.event(&format!("node {id} has joined")),
        Err(error) => {
            let reason = format!("it has not joined: {error:#}");
            shared.audit.violate(Violation::Stopped { node: id, reason });
        }
    }
}

fn request(token: &JoinToken, id: NodeId, key: &NodeKey) -> anyhow::Result<JoinRequest> {
    Ok(JoinRequest {
        secret: token.secret.0.to_vec().into(),
        signing_request: key.signing_request()?.0.into(),
        name: server::node_name(id),
        roles: roles_to(&server::every_role()),
        address: server::address(id).map(|address| address.to_string()),
    })
}

/// It has to be let in as the node that it is taken for here.
fn keep(
    token: &JoinToken,
    files: &KeyFiles,
    key: &NodeKey,
    response: &JoinResponse,
    id: NodeId,
) -> anyhow::Result<()> {
    let root = Root::new(response.root.to_vec())?;
    let identity = Credentials::new(key, &response.certificate, &root)?.identity();
    anyhow::ensure!(
        root.fingerprint() == token.fingerprint,
        "its answer is of another authority than the token"
    );
    anyhow::ensure!(identity.node == id && response.node == id.0, "it was let in as node {}", identity.node);
    files.keep_root(&root)?;
    files.keep_credentials(key, &response.certificate)?;
    files.forget_next_key()?;
    Ok(())
}
