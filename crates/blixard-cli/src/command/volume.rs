//! `blixard volume …`.

use std::time::Duration;

use blixard_proto::v1::volume_service_client::VolumeServiceClient;
use blixard_proto::v1::{DeleteVolumeRequest, ForgetVolumesRequest, ListVolumesRequest};
use blixard_types::TenantName;
use tonic::transport::Channel;

use super::{ANSWER_MAX, Session, call, request_id, waiting_call};
use crate::args::volume::{DeleteVolumeArgs, ForgetVolumesArgs};
use crate::error::{ErrorKind, Failure};
use crate::output::volume::{self, Deletion, Forgotten, Volume, Volumes};
use crate::output::{Format, json};

/// How long `volume delete` waits: a host that is there removes a file at once.
const DELETE_WAIT: Duration = Duration::from_secs(30);

/// It goes on by itself.
#[derive(Debug, thiserror::Error)]
#[error("volume {volume} is still to be removed by {node}{}", if *.lost { ", which is lost" } else { "" })]
struct StillThere {
    volume: String,
    node: String,
    lost: bool,
}

fn client(session: &Session<'_>) -> VolumeServiceClient<Channel> {
    VolumeServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX)
}

pub(super) async fn list(
    session: &mut Session<'_>,
    tenant: Option<TenantName>,
    stale: bool,
) -> Result<(), Failure> {
    let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
    let answer = client(session).list(call(ListVolumesRequest { tenant, stale })).await?.into_inner();
    let volumes = answer.volumes.into_iter().map(Volume::from).collect();
    let volumes = Volumes { volumes, revision: answer.revision };
    match session.format {
        Format::Json => json::write(session.out, &volumes),
        Format::Table if volumes.volumes.is_empty() => {
            session.notes.line("no volumes");
            Ok(())
        }
        Format::Table => Ok(volume::volumes(session.out, &volumes.volumes)?),
    }
}

pub(super) async fn delete(session: &mut Session<'_>, args: &DeleteVolumeArgs) -> Result<(), Failure> {
    let wait = if args.no_wait || args.dry_run { Duration::ZERO } else { DELETE_WAIT };
    let request = DeleteVolumeRequest {
        request_id: request_id()?.to_vec().into(),
        volume: args.volume.to_string(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        dry_run: args.dry_run,
    };
    let answer = client(session).delete(waiting_call(request, wait)).await?.into_inner();
    let (gone, dry_run) = (answer.gone, args.dry_run);
    let deletion = Deletion { volume: Volume::from(answer.volume.unwrap_or_default()), gone, dry_run };
    let done = gone || args.no_wait || dry_run;
    let written = match session.format {
        Format::Json => json::write(session.out, &deletion),
        Format::Table if done => volume::deletion(session.out, &deletion).map_err(Failure::from),
        Format::Table => Ok(()),
    };
    if done {
        return written;
    }
    let Volume { volume, node, host_lost: lost, .. } = deletion.volume;
    let hint = if lost {
        format!(
            "it is removed when that host is back; `blixard volume forget {volume}` does not wait for that"
        )
    } else {
        "it goes on by itself; `blixard volume list` shows when it is gone".to_owned()
    };
    Err(Failure::new(ErrorKind::NotThere, StillThere { volume, node, lost }).hint(hint))
}

pub(super) async fn forget(session: &mut Session<'_>, args: &ForgetVolumesArgs) -> Result<(), Failure> {
    let request = ForgetVolumesRequest {
        request_id: request_id()?.to_vec().into(),
        vm: args.target.vm.to_string(),
        name: args.target.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        dry_run: args.dry_run,
    };
    let answer = client(session).forget(call(request)).await?.into_inner();
    let forgotten = Forgotten::of(answer, args.dry_run);
    match session.format {
        Format::Json => json::write(session.out, &forgotten),
        Format::Table => Ok(volume::forgotten(session.out, &forgotten)?),
    }
}
