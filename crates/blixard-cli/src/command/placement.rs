//! `blixard rebalance` and `blixard cluster preemption`.

use std::time::Duration;

use blixard_proto::v1::placement_service_client::PlacementServiceClient;
use blixard_proto::v1::{RebalanceRequest, SetPreemptionRequest};
use tonic::transport::Channel;

use super::{ANSWER_MAX, Session, call, request_id, waiting_call};
use crate::args::cluster::{RebalanceArgs, Switch};
use crate::error::{ErrorKind, Failure};
use crate::output::placement::{self, Preemption, Rebalance};
use crate::output::{Format, json};

/// How long `rebalance` waits.
const WAIT: Duration = Duration::from_mins(30);

fn client(session: &Session<'_>) -> PlacementServiceClient<Channel> {
    PlacementServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX)
}

pub(super) async fn rebalance(session: &mut Session<'_>, args: &RebalanceArgs) -> Result<(), Failure> {
    let waits = !(args.dry_run || args.no_wait || args.stop);
    let wait = if waits { WAIT } else { Duration::ZERO };
    let request = RebalanceRequest {
        request_id: request_id()?.to_vec().into(),
        dry_run: args.dry_run,
        max_parallel: args.max_parallel,
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        stop: args.stop,
    };
    if waits {
        session
            .notes
            .line(format_args!("waiting up to {} s for all that moves to be healthy", wait.as_secs()));
    }
    let answer = client(session).rebalance(waiting_call(request, wait)).await?.into_inner();
    let told = Rebalance::from(answer);
    match session.format {
        Format::Json => json::write(session.out, &told)?,
        Format::Table if args.stop => writeln!(session.out, "no more microVMs are moved")?,
        Format::Table => placement::rebalance(session.out, &told, args.dry_run)?,
    }
    if !waits || told.is_done() {
        return Ok(());
    }
    let error = std::io::Error::other(told.still_under_way());
    Err(Failure::new(ErrorKind::NotThere, error)
        .hint("it goes on once those are healthy; `blixard rebalance --stop` ends it"))
}

pub(super) async fn preempt(session: &mut Session<'_>, to: Switch) -> Result<(), Failure> {
    let request = SetPreemptionRequest { request_id: request_id()?.to_vec().into(), on: to == Switch::On };
    let told = Preemption::from(client(session).set_preemption(call(request)).await?.into_inner());
    match session.format {
        Format::Json => json::write(session.out, &told),
        Format::Table => Ok(placement::preemption(session.out, &told)?),
    }
}
