//! `blixard node …`.

use blixard_proto::v1::ListNodesRequest;
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;

use super::{ANSWER_MAX, Session, call};
use crate::error::Failure;
use crate::output::json::{self, Node, Nodes};
use crate::output::{Format, text};

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
