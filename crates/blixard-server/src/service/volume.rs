//! `VolumeService`: list, delete, forget.

use blixard_core::apply::Rejection;
use blixard_core::command::{Command, VolumeCommand};
use blixard_core::principal::Principal;
use blixard_core::state::ClusterState;
use blixard_proto::v1::volume_service_server::VolumeService;
use blixard_proto::v1::{DeleteVolumeRequest, DeleteVolumeResponse, ForgetVolumesRequest};
use blixard_proto::v1::{ForgetVolumesResponse, ForgottenVolume, ListVolumesRequest, ListVolumesResponse};
use blixard_proto::{random_id, vm_id, volume_id, volume_view};
use blixard_types::{NodeId, RequestId, TenantName, VmId, VolumeId, VolumeName};
use tonic::{Request, Response, Status};

use crate::{Server, status};

#[derive(Clone)]
pub struct VolumeApi {
    pub(super) server: Server,
}

impl VolumeApi {
    async fn propose(
        &self,
        (request_id, by): (&[u8], Option<Principal>),
        command: VolumeCommand,
    ) -> Result<(), Status> {
        let id = RequestId(random_id("request_id", request_id)?);
        self.server.ask_for((id, by), Command::Volume(command)).await.map(drop)
    }
}

fn forgotten(state: &ClusterState, vm: &VmId, (name, node): (VolumeName, NodeId)) -> ForgottenVolume {
    let node = state.nodes.get(&node).map(|node| node.name.to_string()).unwrap_or_default();
    ForgottenVolume { volume: VolumeId { vm: vm.clone(), name }.to_string(), node }
}

#[tonic::async_trait]
impl VolumeService for VolumeApi {
    async fn list(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let ListVolumesRequest { tenant, stale } = request.into_inner();
        let tenant = (!tenant.is_empty()).then(|| tenant.parse::<TenantName>()).transpose();
        let tenant = tenant.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !stale {
            self.server.linearize().await?;
        }
        let response = self.server.replica.read(|state| {
            let meant = |vm: &VmId| tenant.as_ref().is_none_or(|tenant| tenant == vm.tenant());
            let vms = state.volumes.keys().filter(|vm| meant(vm));
            let volumes = vms.flat_map(|vm| {
                state.volumes_of(vm).map(|(name, volume)| {
                    volume_view(state, &VolumeId { vm: vm.clone(), name: name.clone() }, volume)
                })
            });
            ListVolumesResponse { volumes: volumes.collect(), revision: state.applied.revision().0 }
        });
        Ok(Response::new(response))
    }

    async fn delete(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        let id = volume_id(&request.volume)?;
        self.server.linearize().await?;
        let checked = self.server.replica.read(|state| {
            let volume = state.check_volume_deletion(&id)?;
            Ok::<_, Rejection>((volume_view(state, &id, volume), volume.life))
        });
        let (volume, life) = checked.map_err(|refused| status::rejection(&refused))?;
        if request.dry_run {
            return Ok(Response::new(DeleteVolumeResponse { volume: Some(volume), gone: false }));
        }
        self.propose(
            (&request.request_id, by),
            VolumeCommand::Delete { volume: id.clone(), life: Some(life) },
        )
        .await?;
        // One of another life is not the one that was to go.
        let gone = |state: &ClusterState| {
            state.volumes_of(&id.vm).all(|(name, volume)| *name != id.name || volume.life != life)
        };
        self.server.wait(request.wait_ms, gone).await;
        let gone = self.server.replica.read(gone);
        Ok(Response::new(DeleteVolumeResponse { volume: Some(volume), gone }))
    }

    async fn forget(
        &self,
        request: Request<ForgetVolumesRequest>,
    ) -> Result<Response<ForgetVolumesResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        let vm = vm_id(&request.vm)?;
        let name = (!request.name.is_empty()).then(|| request.name.parse::<VolumeName>()).transpose();
        let name = name.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.server.linearize().await?;
        let found = self.server.replica.read(|state| {
            let found = state.to_give_up(&vm, name.as_ref())?;
            Ok::<_, Rejection>(found.into_iter().map(|one| forgotten(state, &vm, one)).collect::<Vec<_>>())
        });
        let volumes = found.map_err(|refused| status::rejection(&refused))?;
        if !request.dry_run {
            self.propose((&request.request_id, by), VolumeCommand::Forget { vm, volume: name }).await?;
        }
        Ok(Response::new(ForgetVolumesResponse { volumes }))
    }
}
