//! `HostService`: heartbeats in, grants out, reports into the log.
//!
//! A grant is made only after a quorum round that began after its heartbeat came in (rule R2 of the
//! fencing protocol): it never speaks from a state that another leader may have moved past.

use std::sync::Arc;

use blixard_core::apply::Rejection;
use blixard_core::assignment::{AssignmentSet, assignments_of};
use blixard_core::command::Command;
use blixard_core::grant::{Grant, GrantContent, Heartbeat};
use blixard_core::ports::consensus::LinearizeError;
use blixard_proto::v1::host_service_server::HostService;
use blixard_proto::v1::{HostMessage, News, ReportAnswer, ServerMessage, host_message, server_message};
use blixard_proto::{Hello, HostReport, decode_heartbeat, decode_hello, decode_host_report, encode_grant};
use blixard_types::{Incarnation, Revision};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::peer::CallingNode;
use super::{Answers, answers};
use crate::{ProposeFailure, Server, status};

/// Messages that may wait for a host. A host has one heartbeat open and at most one report a vm, so
/// this is room for a burst; beyond it the stream waits, and the host sends its heartbeat again.
const MESSAGES_QUEUED: usize = 256;

#[derive(Clone)]
pub struct HostApi {
    pub(super) server: Server,
}

#[tonic::async_trait]
impl HostService for HostApi {
    type AttendStream = Answers<ServerMessage>;

    async fn attend(
        &self,
        request: Request<Streaming<HostMessage>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let server = self.server.clone();
        let standing = server.log.standing();
        if !standing.leads() {
            return Err(status::linearize(&LinearizeError::NotLeader { leader: standing.leader }));
        }
        let caller = request.extensions().get::<CallingNode>().copied();
        let incoming = request.into_inner();
        let stream = answers(MESSAGES_QUEUED, move |outgoing| attend(server, caller, incoming, outgoing));
        Ok(Response::new(stream))
    }
}

async fn attend(
    server: Server,
    caller: Option<CallingNode>,
    mut incoming: Streaming<HostMessage>,
    outgoing: mpsc::Sender<ServerMessage>,
) -> Result<(), Status> {
    let hello = open_session(&server, caller, &mut incoming).await?;
    tracing::info!(node = %hello.node, daemon = %hello.daemon, "a host attends");
    let server = Arc::new(server);
    let mut changes = server.replica.changes();
    let mut granted: Option<Granted> = None;
    // Whether the host knows already that there is something new since its last grant.
    let mut told = false;
    let mut reports = FuturesUnordered::new();
    loop {
        futures_util::select_biased! {
            message = incoming.next().fuse() => match message.transpose()?.map(|message| message.message) {
                None => return Ok(()),
                Some(Some(host_message::Message::Heartbeat(heartbeat))) => {
                    let heartbeat = decode_heartbeat(&hello, heartbeat)?;
                    let grant = grant(&server, &heartbeat, &mut granted).await?;
                    told = false;
                    send(&outgoing, server_message::Message::Grant(encode_grant(&grant)?)).await?;
                }
                Some(Some(host_message::Message::Report(report))) => {
                    let (server, hello) = (Arc::clone(&server), hello.clone());
                    let report = decode_host_report(report)?;
                    reports.push(async move { propose_report(&server, &hello, report).await });
                }
                Some(Some(host_message::Message::Hello(_)) | None) => {
                    return Err(Status::invalid_argument("expected a heartbeat or a report"));
                }
            },
            answer = reports.select_next_some() => {
                send(&outgoing, server_message::Message::ReportAnswer(answer?)).await?;
            }
            changed = changes.changed().fuse() => {
                if changed.is_err() {
                    return Err(Status::unavailable("this server has stopped"));
                }
                if !told && granted.as_ref().is_none_or(|last| last.is_news(&server, &hello)) {
                    told = true;
                    send(&outgoing, server_message::Message::News(News {})).await?;
                }
            }
        }
    }
}

/// What a host was granted last on this stream.
struct Granted {
    stamp: (Incarnation, Revision),
    set: AssignmentSet,
}

impl Granted {
    fn is_news(&self, server: &Server, hello: &Hello) -> bool {
        server.replica.read(|state| assignments_of(state, hello.node)) != self.set
    }
}

async fn send(
    outgoing: &mpsc::Sender<ServerMessage>,
    message: server_message::Message,
) -> Result<(), Status> {
    let message = ServerMessage { message: Some(message) };
    outgoing.send(message).await.map_err(|_| Status::cancelled("the host has gone away"))
}

/// From here on the reports of earlier daemons of this node are refused.
async fn open_session(
    server: &Server,
    caller: Option<CallingNode>,
    incoming: &mut Streaming<HostMessage>,
) -> Result<Hello, Status> {
    let first = incoming.next().await.transpose()?.and_then(|message| message.message);
    let Some(host_message::Message::Hello(hello)) = first else {
        return Err(Status::invalid_argument("expected hello"));
    };
    let hello = decode_hello(hello)?;
    // Without a calling node it is this node's own agent, over its socket.
    if caller.map_or(server.node, |CallingNode(node)| node) != hello.node {
        return Err(Status::permission_denied("a node speaks for itself alone"));
    }
    let Hello { node, daemon, boot, facts } = hello.clone();
    let proposer = server.proposer();
    let command = Command::OpenSession { node, daemon, boot, facts };
    let opened = proposer.propose(proposer.fresh_request(), command).await;
    opened.map_err(|failure| status::propose(&failure))?;
    Ok(hello)
}

async fn grant(
    server: &Server,
    heartbeat: &Heartbeat,
    granted: &mut Option<Granted>,
) -> Result<Grant, Status> {
    // Here and now: grants are the leader's own word.
    server.log.linearize().await.map_err(|error| status::linearize(&error))?;
    let term = server.log.standing().term;
    let (current, incarnation, revision, set) = server.replica.read(|state| {
        let session = state.nodes.get(&heartbeat.node).and_then(|node| node.session.as_ref());
        let current = session.is_some_and(|session| session.daemon == heartbeat.daemon);
        (current, state.incarnation(), state.applied.revision(), assignments_of(state, heartbeat.node))
    });
    // Only the daemon whose reports count is granted anything: what another starts, nobody would hear of.
    if !current {
        return Err(status::rejection(&Rejection::StaleSession { node: heartbeat.node }));
    }
    let held = granted.as_ref().filter(|last| heartbeat.holds == Some(last.stamp) && last.set == set);
    let content = if held.is_some() { GrantContent::Unchanged } else { GrantContent::Whole(set.clone()) };
    *granted = Some(Granted { stamp: (incarnation, revision), set });
    // No deadline while there is one host: a single machine's guests survive any stop of the daemon.
    Ok(Grant { n: heartbeat.n, term, incarnation, revision, lease_ms: None, content })
}

async fn propose_report(server: &Server, hello: &Hello, report: HostReport) -> Result<ReportAnswer, Status> {
    let HostReport { sequence, vm, epoch, report } = report;
    let proposer = server.proposer();
    let (node, daemon) = (hello.node, hello.daemon);
    let command = Command::Report { node, daemon, sequence, vm, epoch, report };
    match proposer.propose(proposer.fresh_request(), command).await {
        Ok(_) => Ok(ReportAnswer { sequence, refusal: String::new() }),
        // What an invariant forbids stays forbidden: the host need not say it again.
        Err(ProposeFailure::Rejected(rejection)) => {
            Ok(ReportAnswer { sequence, refusal: rejection.to_string() })
        }
        Err(failure) => Err(status::propose(&failure)),
    }
}
