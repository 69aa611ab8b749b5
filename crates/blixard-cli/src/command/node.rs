//! `blixard node …`.

use std::time::Duration;

use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::{Admission as Wanted, DeclareLostRequest, ListNodesRequest, SetAdmissionRequest};

use super::{ANSWER_MAX, Session, call, request_id, waiting_call};
use crate::args::cluster::{DrainArgs, LostArgs, NodeArg};
use crate::error::{ErrorKind, Failure};
use crate::output::json::{self, Node, Nodes};
use crate::output::node::{Admission, Lost, admission, lost as lost_text};
use crate::output::{Format, text};

/// How long `node drain` waits without a deadline.
const DRAIN_WAIT: Duration = Duration::from_mins(30);
/// How long it waits after one: the guests are still asked to shut down.
const AFTER_DEADLINE: Duration = Duration::from_mins(5);

pub(super) async fn list(session: &mut Session<'_>, stale: bool) -> Result<(), Failure> {
    let mut client = ClusterServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX);
    let answer = client.list_nodes(call(ListNodesRequest { stale })).await?.into_inner();
    let nodes = answer.nodes.into_iter().map(Node::from).collect();
    let nodes = Nodes { nodes, revision: answer.revision };
    match session.format {
        Format::Json => json::write(session.out, &nodes),
        Format::Table => Ok(text::nodes(session.out, &nodes.nodes)?),
    }
}

pub(super) async fn cordon(session: &mut Session<'_>, args: NodeArg) -> Result<(), Failure> {
    let request = request(args.node, Wanted::Cordoned)?;
    admit(session, request, Duration::ZERO).await.map(drop)
}

pub(super) async fn uncordon(session: &mut Session<'_>, args: NodeArg) -> Result<(), Failure> {
    let request = request(args.node, Wanted::Open)?;
    admit(session, request, Duration::ZERO).await.map(drop)
}

pub(super) async fn drain(session: &mut Session<'_>, args: DrainArgs) -> Result<(), Failure> {
    let longest = args.deadline.map_or(DRAIN_WAIT, |deadline| deadline.saturating_add(AFTER_DEADLINE));
    let wait = if args.no_wait { Duration::ZERO } else { longest };
    let request = SetAdmissionRequest {
        max_parallel: args.max_parallel,
        deadline_in_ms: args.deadline.map(millis),
        wait_ms: millis(wait),
        ..request(args.node.node, Wanted::Draining)?
    };
    if !args.no_wait {
        session.notes.line(format_args!("waiting up to {} s for it to be empty", wait.as_secs()));
    }
    let drained = admit(session, request, wait).await?;
    if args.no_wait || drained.is_empty() {
        return Ok(());
    }
    let error = std::io::Error::other(drained.still_there());
    Err(Failure::new(ErrorKind::NotThere, error).hint("the drain goes on; `blixard node uncordon` ends it"))
}

pub(super) async fn lost(session: &mut Session<'_>, args: LostArgs) -> Result<(), Failure> {
    let (request_id, force) = (request_id()?.to_vec().into(), args.force);
    let request = DeclareLostRequest { request_id, node: args.node.node, force };
    let mut client = ClusterServiceClient::new(session.channel.clone());
    let answer = Lost::from(client.declare_lost(call(request)).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &answer),
        Format::Table => Ok(lost_text(session.out, &answer)?),
    }
}

fn request(node: String, admission: Wanted) -> Result<SetAdmissionRequest, Failure> {
    let request_id = request_id()?.to_vec().into();
    Ok(SetAdmissionRequest {
        request_id,
        node,
        admission: admission.into(),
        ..SetAdmissionRequest::default()
    })
}

async fn admit(
    session: &mut Session<'_>,
    request: SetAdmissionRequest,
    wait: Duration,
) -> Result<Admission, Failure> {
    let mut client = ClusterServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX);
    let answer = client.set_admission(waiting_call(request, wait)).await?.into_inner();
    let answer = Admission::from(answer);
    match session.format {
        Format::Json => json::write(session.out, &answer)?,
        Format::Table => admission(session.out, &answer)?,
    }
    Ok(answer)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
