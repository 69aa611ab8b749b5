//! `HostService`: heartbeats in, grants out, reports into the log.
//!
//! What may be granted is the leader's keeper of leases' to say ([`crate::leader::leases`]); here is one
//! host's stream: which heartbeat came when, and whether the host holds already what it is granted.

use std::sync::Arc;

use blixard_core::apply::Rejection;
use blixard_core::assignment::AssignmentSet;
use blixard_core::command::Command;
use blixard_core::grant::{Grant, GrantContent, Heartbeat};
use blixard_core::lease::Withheld;
use blixard_core::ports::consensus::LinearizeError;
use blixard_proto::v1::host_service_server::HostService;
use blixard_proto::v1::{HostMessage, News, ReportAnswer, ServerMessage, host_message, server_message};
use blixard_proto::{Hello, HostReport, SESSION_TAKEN};
use blixard_proto::{decode_heartbeat, decode_hello, decode_host_report, encode_grant};
use blixard_types::{Incarnation, Revision};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::peer::CallingNode;
use super::{Answers, answers};
use crate::leader::leases::{Granting, NotGranted};
use crate::{ProposeFailure, Proposer, Server, status};

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
    let mut changes = server.replica.news_for(hello.node);
    let mut asked = FuturesUnordered::new();
    let mut granted: Option<Granted> = None;
    let mut told = Told::Nothing;
    let mut reports = FuturesUnordered::new();
    loop {
        futures_util::select_biased! {
            message = incoming.next().fuse() => match message.transpose()?.map(|message| message.message) {
                None => return Ok(()),
                Some(Some(host_message::Message::Heartbeat(heartbeat))) => {
                    // Its silence is counted from here, so the clock comes first.
                    let received = server.clock.boot();
                    let heartbeat = decode_heartbeat(&hello, heartbeat)?;
                    let leases = server.leases.clone();
                    asked.push(async move { (leases.ask(heartbeat.clone(), received).await, heartbeat) });
                }
                Some(Some(host_message::Message::Report(report))) => {
                    let (proposer, hello) = (server.proposer(), hello.clone());
                    let report = decode_host_report(report)?;
                    reports.push(async move { propose_report(&proposer, &hello, report).await });
                }
                Some(Some(host_message::Message::Hello(_)) | None) => {
                    return Err(Status::invalid_argument("expected a heartbeat or a report"));
                }
            },
            (answer, heartbeat) = asked.select_next_some() => {
                if let Some(granting) = answered(answer)? {
                    let grant = grant(&heartbeat, granting, &mut granted);
                    send(&outgoing, server_message::Message::Grant(encode_grant(&grant)?)).await?;
                    let before = std::mem::replace(&mut told, Told::Nothing);
                    if before == Told::MoreSince && is_news(granted.as_ref(), &server, &hello) {
                        told = Told::News;
                        send(&outgoing, server_message::Message::News(News {})).await?;
                    }
                }
            }
            answer = reports.select_next_some() => {
                send(&outgoing, server_message::Message::ReportAnswer(answer?)).await?;
            }
            changed = changes.changed().fuse() => {
                if changed.is_err() {
                    return Err(Status::unavailable("this server has stopped"));
                }
                if told != Told::Nothing {
                    told = Told::MoreSince;
                } else if is_news(granted.as_ref(), &server, &hello) {
                    told = Told::News;
                    send(&outgoing, server_message::Message::News(News {})).await?;
                }
            }
        }
    }
}

/// What a host was granted last on this stream.
struct Granted {
    stamp: (Incarnation, Revision),
    set: Arc<AssignmentSet>,
}

/// What a host has been told since its last grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That there is something new.
    News,
    /// That, and more has come since, which may be in the next grant or not.
    MoreSince,
}

/// Whether a host is granted something else than it was last.
fn is_news(granted: Option<&Granted>, server: &Server, hello: &Hello) -> bool {
    granted.is_none_or(|last| {
        let now = server.replica.read(|state| server.replica.assignments(state, hello.node));
        !Arc::ptr_eq(&now, &last.set) && now != last.set
    })
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
    match opened {
        Ok(_) => Ok(hello),
        // A dead daemon's hello came late. This one is not heard any more; one that is started anew is.
        Err(ProposeFailure::Rejected(rejection @ Rejection::StaleSession { .. })) => {
            Err(Status::new(SESSION_TAKEN, rejection.to_string()))
        }
        Err(failure) => Err(status::propose(&failure)),
    }
}

/// What comes of a heartbeat. One that is not granted now need not end the stream: the host asks again.
fn answered(answer: Result<Granting, NotGranted>) -> Result<Option<Granting>, Status> {
    match answer {
        Ok(granting) => Ok(Some(granting)),
        // It says hello again.
        Err(NotGranted::Withheld(Withheld::StaleSession { node })) => {
            Err(status::rejection(&Rejection::StaleSession { node }))
        }
        Err(NotGranted::Withheld(withheld @ (Withheld::Deposed { .. } | Withheld::ClockOff))) => {
            Err(Status::unavailable(withheld.to_string()))
        }
        Err(NotGranted::Withheld(withheld)) => {
            tracing::debug!(%withheld, "a heartbeat is not answered");
            Ok(None)
        }
        Err(NotGranted::NoRound(error)) => Err(status::linearize(&error)),
        Err(NotGranted::Stopped) => Err(Status::unavailable("this server has stopped")),
    }
}

fn grant(heartbeat: &Heartbeat, granting: Granting, granted: &mut Option<Granted>) -> Grant {
    let Granting { term, incarnation, revision, lease_ms, pace, set } = granting;
    let held = granted.as_ref().filter(|last| heartbeat.holds == Some(last.stamp) && last.set == set);
    let content = if held.is_some() {
        GrantContent::Unchanged
    } else {
        GrantContent::Whole(AssignmentSet::clone(&set))
    };
    *granted = Some(Granted { stamp: (incarnation, revision), set });
    Grant { n: heartbeat.n, term, incarnation, revision, lease_ms, pace, content }
}

async fn propose_report(
    proposer: &Proposer,
    hello: &Hello,
    report: HostReport,
) -> Result<ReportAnswer, Status> {
    let HostReport { sequence, vm, epoch, report } = report;
    let (node, daemon) = (hello.node, hello.daemon);
    let command = Command::Report { node, daemon, sequence, vm, epoch, report };
    match proposer.propose_when_there_is_room(proposer.fresh_request(), command).await {
        Ok(_) => Ok(ReportAnswer { sequence, refusal: String::new() }),
        // What an invariant forbids stays forbidden: the host need not say it again.
        Err(ProposeFailure::Rejected(rejection)) => {
            Ok(ReportAnswer { sequence, refusal: rejection.to_string() })
        }
        Err(failure) => Err(status::propose(&failure)),
    }
}

#[cfg(test)]
mod tests;
