//! `blixard cluster …` and `blixard node remove`.

use std::time::Duration;

use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::{CreateTokenRequest, InitRequest, RemoveNodeRequest, Role, StatusRequest};
use tonic::transport::Channel;

use super::{ANSWER_MAX, Session, call, request_id, waiting_call};
use crate::args::cluster::{RemoveArgs, RoleArg};
use crate::error::{ErrorKind, Failure};
use crate::output::cluster::{self, Cluster, Removal, Token};
use crate::output::{Format, json};

/// How long `node remove` waits: a leader hands over, and the group changes in two steps.
const REMOVE_WAIT: Duration = Duration::from_mins(1);

fn client(session: &Session<'_>) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX)
}

pub(super) async fn init(session: &mut Session<'_>) -> Result<(), Failure> {
    let answer = client(session).init(call(InitRequest {})).await?.into_inner();
    let founded = cluster::Founded::from(answer);
    match session.format {
        Format::Json => json::write(session.out, &founded),
        Format::Table => Ok(cluster::founded(session.out, &founded)?),
    }
}

pub(super) async fn create_token(
    session: &mut Session<'_>,
    ttl: Duration,
    roles: &[RoleArg],
) -> Result<(), Failure> {
    let role = |role: &RoleArg| match role {
        RoleArg::Server => Role::Server.into(),
        RoleArg::Host => Role::Host.into(),
        RoleArg::Builder => Role::Builder.into(),
    };
    let request = CreateTokenRequest {
        request_id: request_id()?.to_vec().into(),
        roles: roles.iter().map(role).collect(),
        ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
    };
    let token = Token::from(client(session).create_token(call(request)).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &token),
        // The token alone, so that it can be piped into a file.
        Format::Table => Ok(writeln!(session.out, "{}", token.token)?),
    }
}

pub(super) async fn status(session: &mut Session<'_>, digest: bool) -> Result<(), Failure> {
    let request = StatusRequest { members: true, digest };
    let status = Cluster::from(client(session).status(call(request)).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &status),
        Format::Table => Ok(cluster::status(session.out, &status)?),
    }
}

pub(super) async fn remove(session: &mut Session<'_>, args: &RemoveArgs) -> Result<(), Failure> {
    let wait = if args.no_wait { Duration::ZERO } else { REMOVE_WAIT };
    let request = RemoveNodeRequest {
        request_id: request_id()?.to_vec().into(),
        node: args.node.clone(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    };
    let answer = client(session).remove_node(waiting_call(request, wait)).await?.into_inner();
    let removal = Removal::of(&args.node, answer);
    match session.format {
        Format::Json => json::write(session.out, &removal)?,
        Format::Table => cluster::removal(session.out, &removal)?,
    }
    if removal.gone || args.no_wait {
        return Ok(());
    }
    let waits = removal.waiting_on.unwrap_or_else(|| "it goes on leaving by itself".to_owned());
    Err(Failure::new(
        ErrorKind::NotThere,
        std::io::Error::other(format!("{} is still there: {waits}", args.node)),
    ))
}
