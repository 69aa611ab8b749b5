//! A consensus node of the production crates, asked as etcd is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use blixard_core::ports::consensus::{Consensus as _, ProposeError};
use blixard_core::ports::members::{Membership as _, MembershipError};
use blixard_peer::{Channels, GrpcPeers, PlainDialer, configure_server, service};
use blixard_raft::{Peer, Place, RaftNode, RaftOptions};
use blixard_types::NodeId;
use clap::Args;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::control::control_client::ControlClient;
use crate::control::control_server::{Control, ControlServer};
use crate::control::{AddRequest, CountersReply, Empty, Voters};
use crate::etcd::kv_server::{Kv, KvServer};
use crate::etcd::maintenance_server::{Maintenance, MaintenanceServer};
use crate::etcd::{PutRequest, PutResponse, ResponseHeader, StatusRequest, StatusResponse};
use crate::load::endpoint;
use crate::table::Table;

/// A member that lacks fewer entries than this has caught up, while load goes on.
const CAUGHT_UP: u64 = 1_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Its number
    #[arg(long)]
    id: u64,
    /// Where it keeps its data
    #[arg(long)]
    dir: PathBuf,
    /// Where peers reach it
    #[arg(long)]
    peers: SocketAddr,
    /// Where the load reaches it
    #[arg(long)]
    clients: SocketAddr,
    /// Run the consensus on a thread of its own
    #[arg(long)]
    own_thread: bool,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let peers = TcpListener::bind(arguments.peers).await.context("cannot listen for peers")?;
    let clients = TcpListener::bind(arguments.clients).await.context("cannot listen for clients")?;
    let mut options = RaftOptions::new(NodeId(arguments.id), arguments.dir);
    options.peer = Peer { name: String::new(), address: arguments.peers.to_string() };
    options.transport = Arc::new(GrpcPeers::new(Channels::new(Arc::new(PlainDialer))));
    if arguments.own_thread {
        options.place = Place::OwnThread;
    }
    let node = RaftNode::open(options, Arc::new(Table::default())).await?;
    let asked = Asked { node: node.clone() };
    let for_peers = configure_server(Server::builder())
        .add_service(service(Arc::new(node)))
        .serve_with_incoming(at_once(peers));
    let for_clients = Server::builder()
        .add_service(KvServer::new(asked.clone()))
        .add_service(MaintenanceServer::new(asked.clone()))
        .add_service(ControlServer::new(asked))
        .serve_with_incoming(at_once(clients));
    tokio::try_join!(for_peers, for_clients)?;
    Ok(())
}

/// Connections that send what they have at once. The server's own setting is for listeners that it makes
/// itself: without this, answers wait 40 ms now and then for an acknowledgement of the ones before.
fn at_once(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

#[derive(Clone)]
struct Asked {
    node: RaftNode,
}

fn refused(error: &MembershipError) -> Status {
    Status::failed_precondition(error.to_string())
}

#[tonic::async_trait]
impl Kv for Asked {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let command = request.into_inner().encode_to_vec();
        match self.node.propose(command).await {
            Ok(_) => Ok(Response::new(PutResponse { header: None })),
            Err(error @ ProposeError::NotLeader { .. }) => Err(Status::unavailable(error.to_string())),
            Err(error) => Err(Status::unknown(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl Maintenance for Asked {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let standing = self.node.standing();
        let header = ResponseHeader {
            member_id: standing.node.0,
            raft_term: standing.term,
            ..ResponseHeader::default()
        };
        let leader = standing.leader.map_or(0, |leader| leader.0);
        Ok(Response::new(StatusResponse { header: Some(header), leader, ..StatusResponse::default() }))
    }
}

#[tonic::async_trait]
impl Control for Asked {
    async fn form(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.node.form().await.map_err(|error| refused(&error))?;
        Ok(Response::new(Empty {}))
    }

    async fn add(&self, request: Request<AddRequest>) -> Result<Response<Empty>, Status> {
        let AddRequest { node, address } = request.into_inner();
        self.node.add_learner(NodeId(node), String::new(), address).await.map_err(|error| refused(&error))?;
        self.node.caught_up(NodeId(node), CAUGHT_UP).await.map_err(|error| refused(&error))?;
        Ok(Response::new(Empty {}))
    }

    async fn set_voters(&self, request: Request<Voters>) -> Result<Response<Empty>, Status> {
        let voters = request.into_inner().nodes.into_iter().map(NodeId).collect();
        self.node.set_voters(voters).await.map_err(|error| refused(&error))?;
        Ok(Response::new(Empty {}))
    }

    async fn counters(&self, _: Request<Empty>) -> Result<Response<CountersReply>, Status> {
        let storage = self.node.storage().await.map_err(|error| Status::internal(error.to_string()))?;
        let last_index = self.node.standing().last_log.map_or(0, |position| position.index);
        Ok(Response::new(CountersReply {
            durable_commits: storage.durable_commits,
            last_index,
            log_bytes: storage.log_bytes,
            checkpoint_bytes: storage.checkpoint_bytes,
        }))
    }
}

async fn controls(address: &str) -> anyhow::Result<ControlClient<Channel>> {
    Ok(ControlClient::new(endpoint(address)?.connect().await?))
}

pub(crate) async fn form(address: String) -> anyhow::Result<()> {
    controls(&address).await?.form(Empty {}).await?;
    Ok(())
}

pub(crate) async fn add(to: String, node: u64, address: String) -> anyhow::Result<()> {
    controls(&to).await?.add(AddRequest { node, address }).await?;
    Ok(())
}

pub(crate) async fn voters(address: String, nodes: Vec<u64>) -> anyhow::Result<()> {
    controls(&address).await?.set_voters(Voters { nodes }).await?;
    Ok(())
}

pub(crate) async fn counters(address: String) -> anyhow::Result<()> {
    let counters = controls(&address).await?.counters(Empty {}).await?.into_inner();
    println!(
        "{}",
        serde_json::json!({
            "durable_commits": counters.durable_commits,
            "last_index": counters.last_index,
            "log_bytes": counters.log_bytes,
            "checkpoint_bytes": counters.checkpoint_bytes,
        })
    );
    Ok(())
}
