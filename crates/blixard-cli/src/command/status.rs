//! `blixard status`.

use blixard_proto::v1::StatusRequest;
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;

use super::{Session, call};
use crate::error::Failure;
use crate::output::json::{self, Status};
use crate::output::{Format, text};

pub(super) async fn run(session: &mut Session<'_>) -> Result<(), Failure> {
    let mut client = ClusterServiceClient::new(session.channel.clone());
    let status = Status::from(client.status(call(StatusRequest::default())).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &status),
        Format::Table => Ok(text::status(session.out, &status)?),
    }
}
