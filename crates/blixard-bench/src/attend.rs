//! Hosts that only say that they are there: each asks for its grant as often as it is told to.
//!
//! Owns: streams as a host agent has them, with what it holds and runs in each heartbeat. Refuses to run anything:
//! what is granted is taken to run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use blixard_core::assignment::{AssignmentSet, Intent};
use blixard_core::grant::{GrantContent, Heartbeat, RunningVm};
use blixard_core::state::{NodeFacts, Terms};
use blixard_proto::v1::host_service_client::HostServiceClient;
use blixard_proto::v1::{HostMessage, host_message, server_message};
use blixard_proto::{Hello, decode_grant, encode_heartbeat, encode_hello};
use blixard_types::{DaemonId, NodeId};
use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::idle::{FIRST_HOST, NODE};

/// Hosts that share a connection: as many connections as files may be open on most machines would be too many.
const PER_CONNECTION: u32 = 50;
/// As with the default times.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the leader is
    endpoint: String,
    /// How many hosts there are
    #[arg(long)]
    hosts: u32,
}

/// What was seen, of all hosts together.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    whole: usize,
    /// When each heartbeat was sent, in milliseconds since 1970, and how long its grant took, in microseconds; of one
    /// that has none, how long there was none.
    waits: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Seen {
    waits: Vec<(u64, u64)>,
    whole: usize,
    /// Heartbeats without an answer, by their numbers.
    open: BTreeMap<u64, (u64, Instant)>,
}

impl Seen {
    fn sent(&mut self, n: u64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.open.insert(n, (u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Instant::now()));
    }

    fn answered(&mut self, n: u64) {
        if let Some((at, since)) = self.open.remove(&n) {
            self.waits.push((at, u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)));
        }
    }

    /// What is without an answer for longer than the pause between two heartbeats is late, whatever may come.
    fn ended(mut self) -> Self {
        let late = self.open.iter().filter(|(_, (_, since))| since.elapsed() > HEARTBEAT);
        for n in late.map(|(&n, _)| n).collect::<Vec<_>>() {
            self.answered(n);
        }
        self
    }
}

/// Attends until the leader ends.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut hosts = Vec::new();
    let mut channel: Option<Channel> = None;
    for number in 0..arguments.hosts {
        if channel.is_none() || number.is_multiple_of(PER_CONNECTION) {
            let endpoint = Endpoint::from_shared(arguments.endpoint.clone())?.tcp_nodelay(true);
            channel = Some(endpoint.connect().await.context("cannot reach the leader")?);
        }
        if let Some(channel) = channel.clone() {
            let (node, hosts_of_all) = (NodeId(FIRST_HOST + u64::from(number)), arguments.hosts);
            // Their heartbeats are spread over the pause between two.
            let phase = HEARTBEAT * number / hosts_of_all;
            hosts.push(tokio::spawn(async move { host(channel, node, phase).await }));
        }
    }
    let (mut waits, mut whole) = (Vec::new(), 0);
    for seen in join_all(hosts).await {
        let seen = seen??;
        waits.extend(seen.waits);
        whole += seen.whole;
    }
    println!("{}", serde_json::to_string(&Figures { whole, waits })?);
    Ok(())
}

fn hello(node: NodeId) -> Hello {
    let facts = NodeFacts {
        cpus: 32,
        memory_mib: 65_536,
        system: "x86_64-linux".to_owned(),
        kvm: true,
        kernel: "6.12".to_owned(),
        version: "bench".to_owned(),
        disk_mib: Some(1 << 20),
        hypervisors: [].into(),
        nix_version: "2.26".to_owned(),
        terms: Terms::default(),
        shared: [].into(),
    };
    let daemon = DaemonId(u128::from(node.0).to_be_bytes());
    Hello { node, daemon, boot: "11111111-2222-3333-4444-555555555555".to_owned(), facts }
}

async fn host(channel: Channel, node: NodeId, phase: Duration) -> anyhow::Result<Seen> {
    let hello = hello(node);
    let (messages, outgoing) = mpsc::channel(16);
    let say = |message| HostMessage { message: Some(message) };
    messages.send(say(host_message::Message::Hello(encode_hello(&hello)))).await?;
    let outgoing = futures_util::stream::unfold(outgoing, |mut outgoing| async {
        outgoing.recv().await.map(|message| (message, outgoing))
    });
    let mut request = Request::new(outgoing);
    request.metadata_mut().insert(NODE, node.0.to_string().parse()?);
    let mut answers = HostServiceClient::new(channel).attend(request).await?.into_inner();
    tokio::time::sleep(phase).await;
    let mut pace = tokio::time::interval(HEARTBEAT);
    let (mut n, mut seen) = (0, Seen::default());
    let (mut held, mut holds) = (AssignmentSet::default(), None);
    loop {
        tokio::select! {
            _ = pace.tick() => {
                n += 1;
                seen.sent(n);
                let heartbeat = Heartbeat {
                    node,
                    boot: hello.boot.clone(),
                    daemon: hello.daemon,
                    n,
                    running: running(&held),
                    holds,
                    fenced_by: holds.map(|(_, revision)| revision),
                };
                let message = say(host_message::Message::Heartbeat(encode_heartbeat(&heartbeat)));
                if messages.send(message).await.is_err() {
                    return Ok(seen.ended());
                }
            }
            answer = answers.message() => match answer {
                Ok(Some(message)) => {
                    if let Some(server_message::Message::Grant(grant)) = message.message {
                        let grant = decode_grant(grant)?;
                        seen.answered(grant.n);
                        holds = Some((grant.incarnation, grant.revision));
                        if let GrantContent::Whole(set) = grant.content {
                            seen.whole += 1;
                            held = set;
                        }
                    }
                }
                // The leader has seen enough.
                Ok(None) | Err(_) => return Ok(seen.ended()),
            }
        }
    }
}

fn running(held: &AssignmentSet) -> Vec<RunningVm> {
    let of = |(vm, assignment): (&blixard_types::VmId, &blixard_core::assignment::Assignment)| {
        let Intent::Run(run) = &assignment.intent else { return None };
        Some(RunningVm { vm: vm.clone(), epoch: assignment.epoch, generation: run.generation })
    };
    held.assignments.iter().filter_map(of).collect()
}
