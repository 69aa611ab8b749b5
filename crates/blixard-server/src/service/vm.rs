//! `VmService`: list, start, stop, restart, delete, consoles.

use std::sync::Arc;

use blixard_core::command::Command;
use blixard_core::schedule;
use blixard_core::schedule::explain::explain;
use blixard_core::state::Vm as VmState;
use blixard_core::state::{ClusterState, Desired, Files, HealthStatus, Phase, Restart, Run, Unplaced};
use blixard_proto::v1::vm_service_server::VmService;
use blixard_proto::v1::{DeleteVmRequest, DeleteVmResponse, ExplainVmRequest, ExplainVmResponse};
use blixard_proto::v1::{GetVmRequest, ListVmsRequest, ListVmsResponse};
use blixard_proto::v1::{LogLine, LogsRequest, RestartVmRequest, SetDesiredRequest, Vm};
use blixard_proto::{explanation_view, random_id, vm_id, vm_view};
use blixard_types::{RequestId, TenantName, VmId};
use tonic::{Request, Response, Status};

use super::Answers;
use super::console::ConsoleAccess;
use crate::{Server, status};

#[derive(Clone)]
pub struct VmApi {
    pub(super) server: Server,
    pub(super) consoles: Arc<dyn ConsoleAccess>,
}

impl VmApi {
    fn view(&self, id: &VmId) -> Result<Vm, Status> {
        let now = self.server.clock.wall();
        self.server.replica.read(|state| {
            let vm = state.vms.get(id).ok_or_else(|| unknown(id))?;
            let waiting = schedule::plan(state, now).waiting;
            Ok(vm_view(state, id, vm, waiting.get(id))?)
        })
    }
}

fn unknown(vm: &VmId) -> Status {
    status::rejection(&blixard_core::apply::Rejection::UnknownVm { vm: vm.clone() })
}

/// Whether a vm has got where it was sent, or will not get there by waiting.
fn settled(vm: &VmState, desired: Desired) -> bool {
    match (&vm.run, desired) {
        (Run::Unplaced { why }, Desired::Running) => {
            matches!(why, Unplaced::Failed { .. } | Unplaced::Succeeded { .. })
        }
        (Run::Placed { phase: Phase::Running { health, .. }, .. }, Desired::Running) => {
            *health != HealthStatus::Pending
        }
        (run, Desired::Stopped) => run.host().is_none(),
        (Run::Placed { .. }, Desired::Running) => false,
    }
}

/// The node that keeps what the vm has left, if it has ever run.
fn kept_on(state: &ClusterState, vm: &VmId, files: Files) -> String {
    let host = state.vms.get(vm).and_then(|vm| vm.last_host).filter(|_| files == Files::Keep);
    let host = host.and_then(|host| state.nodes.get(&host));
    host.map(|host| host.name.to_string()).unwrap_or_default()
}

#[tonic::async_trait]
impl VmService for VmApi {
    async fn list(&self, request: Request<ListVmsRequest>) -> Result<Response<ListVmsResponse>, Status> {
        let ListVmsRequest { tenant, stale } = request.into_inner();
        let tenant = (!tenant.is_empty()).then(|| tenant.parse::<TenantName>()).transpose();
        let tenant = tenant.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !stale {
            self.server.linearize().await?;
        }
        let now = self.server.clock.wall();
        let response = self.server.replica.read(|state| {
            let waiting = schedule::plan(state, now).waiting;
            let wanted =
                state.vms.iter().filter(|(id, _)| tenant.as_ref().is_none_or(|one| one == id.tenant()));
            let vms = wanted.map(|(id, vm)| vm_view(state, id, vm, waiting.get(id)));
            let vms = vms.collect::<Result<_, _>>()?;
            Ok::<_, Status>(ListVmsResponse { vms, revision: state.applied.revision().0 })
        });
        response.map(Response::new)
    }

    async fn get(&self, request: Request<GetVmRequest>) -> Result<Response<Vm>, Status> {
        let GetVmRequest { vm, stale } = request.into_inner();
        let vm = vm_id(&vm)?;
        if !stale {
            self.server.linearize().await?;
        }
        self.view(&vm).map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<ExplainVmRequest>,
    ) -> Result<Response<ExplainVmResponse>, Status> {
        let ExplainVmRequest { vm: id, stale } = request.into_inner();
        let id = vm_id(&id)?;
        if !stale {
            self.server.linearize().await?;
        }
        let now = self.server.clock.wall();
        let explained = self.server.replica.read(|state| {
            let (vm, explanation) = (state.vms.get(&id)?, explain(state, &id, now)?);
            Some(explanation_view(state, &id, vm, &explanation))
        });
        explained.map(Response::new).ok_or_else(|| unknown(&id))
    }

    async fn set_desired(&self, request: Request<SetDesiredRequest>) -> Result<Response<Vm>, Status> {
        let (request, by) = self.server.asked(request)?;
        let vm = vm_id(&request.vm)?;
        let desired = blixard_proto::desired(request.desired)?;
        let id = RequestId(random_id("request_id", &request.request_id)?);
        let command = Command::SetDesired { vm: vm.clone(), desired };
        self.server.ask_for((id, by), command).await?;
        self.server
            .wait(request.wait_ms, |state| state.vms.get(&vm).is_none_or(|vm| settled(vm, desired)))
            .await;
        self.view(&vm).map(Response::new)
    }

    async fn restart(&self, request: Request<RestartVmRequest>) -> Result<Response<Vm>, Status> {
        let (request, by) = self.server.asked(request)?;
        let vm = vm_id(&request.vm)?;
        let id = RequestId(random_id("request_id", &request.request_id)?);
        let epoch = |state: &ClusterState| state.vms.get(&vm).map(|vm| vm.last_epoch);
        let before = self.server.replica.read(epoch);
        let command = Command::RestartVm { vm: vm.clone() };
        self.server.ask_for((id, by), command).await?;
        // The run that was there ends with its epoch; what counts is the one that comes after it.
        let runs_anew = |vm: &VmState| Some(vm.last_epoch) > before && vm.restart == Restart::No;
        let arrived = |vm: &VmState| !vm.wanted() || runs_anew(vm) && settled(vm, Desired::Running);
        self.server.wait(request.wait_ms, |state| state.vms.get(&vm).is_none_or(arrived)).await;
        self.view(&vm).map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteVmRequest>) -> Result<Response<DeleteVmResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        let vm = vm_id(&request.vm)?;
        let id = RequestId(random_id("request_id", &request.request_id)?);
        let files = if request.discard_files { Files::Discard } else { Files::Keep };
        let kept_on = self.server.replica.read(|state| kept_on(state, &vm, files));
        let command = Command::DeleteVm { vm: vm.clone(), files };
        self.server.ask_for((id, by), command).await?;
        self.server.wait(request.wait_ms, |state| !state.vms.contains_key(&vm)).await;
        let gone = self.server.replica.read(|state| !state.vms.contains_key(&vm));
        Ok(Response::new(DeleteVmResponse { gone, kept_on }))
    }

    type LogsStream = Answers<LogLine>;

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let vm = vm_id(&request.vm)?;
        self.server.linearize().await?;
        let host = self.server.replica.read(|state| {
            let vm = state.vms.get(&vm).ok_or_else(|| unknown(&vm))?;
            Ok::<_, Status>(vm.last_host)
        })?;
        let host = host.ok_or_else(|| Status::failed_precondition(format!("vm {vm} has never run")))?;
        let lines = self.consoles.of(host).await?.lines(request).await?.into_inner();
        Ok(Response::new(Box::pin(lines)))
    }
}
