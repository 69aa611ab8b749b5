//! Whether vms are placed on a node, as people say it.

use blixard_core::command::{Command, FenceCommand};
use blixard_core::giving_up::{Answers, Objection, objections};
use blixard_core::ports::UnixMillis;
use blixard_core::principal::Principal;
use blixard_core::state::ClusterState;
use blixard_core::{drain, state};
use blixard_proto::hint::with_hint;
use blixard_proto::v1::{DeclareLostRequest, DeclareLostResponse, StayingVm};
use blixard_proto::v1::{NodeState, SetAdmissionRequest, SetAdmissionResponse};
use blixard_proto::{admission_from, node_state, random_id};
use blixard_types::{NodeId, RequestId};
use tonic::Status;

use super::ClusterApi;
use super::change::find;

impl ClusterApi {
    pub(super) async fn admit(
        &self,
        request: SetAdmissionRequest,
        by: Option<Principal>,
    ) -> Result<SetAdmissionResponse, Status> {
        let id = RequestId(random_id("request_id", &request.request_id)?);
        let now = self.server.clock.wall();
        let deadline = request.deadline_in_ms.map(|ms| UnixMillis(now.0.saturating_add(ms)));
        let admission = admission_from(request.admission, request.max_parallel, deadline)?;
        self.server.linearize().await?;
        let node = self.server.replica.read(|state| find(state, &request.node))?;
        let command = Command::Fence(FenceCommand::SetAdmission { node, admission });
        self.server.ask_for((id, by), command).await?;
        if matches!(admission, state::Admission::Draining { .. }) {
            self.server.wait(request.wait_ms, |state| on(state, node) == 0).await;
        }
        let now = self.server.clock.wall();
        Ok(self.server.replica.read(|state| admitted(state, node, now)))
    }

    pub(super) async fn give_up(
        &self,
        request: DeclareLostRequest,
        by: Option<Principal>,
    ) -> Result<DeclareLostResponse, Status> {
        let id = RequestId(random_id("request_id", &request.request_id)?);
        self.server.linearize().await?;
        let node = self.server.replica.read(|state| find(state, &request.node))?;
        let answers = if self.answers(node).await { Answers::Yes } else { Answers::No };
        let against = self.server.replica.read(|state| objections(state, node, answers));
        if !request.force && against.iter().any(Objection::forbids) {
            let why = against.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let refused = Status::failed_precondition(format!("{} is not given up: {why}", request.node));
            let hint = "`blixard node drain` empties a host that is up; `--force` gives it up all the same";
            return Err(with_hint(refused, hint));
        }
        let command = Command::Fence(FenceCommand::DeclareLost { node });
        self.server.ask_for((id, by), command).await?;
        Ok(self.server.replica.read(|state| DeclareLostResponse {
            node: state.nodes.get(&node).map(|node| node.name.to_string()).unwrap_or_default(),
            vms: on(state, node),
            warnings: against.iter().map(ToString::to_string).collect(),
        }))
    }
}

/// How many vms are on a node.
fn on(state: &ClusterState, node: NodeId) -> u64 {
    state.vms.values().filter(|vm| vm.run.host() == Some(node)).count() as u64
}

fn admitted(state: &ClusterState, id: NodeId, now: UnixMillis) -> SetAdmissionResponse {
    let node = state.nodes.get(&id);
    let here = |vm: &blixard_types::VmId| state.vms.get(vm).is_some_and(|vm| vm.run.host() == Some(id));
    let staying = drain::plan(state, now).staying.into_iter().filter(|(vm, _)| here(vm));
    SetAdmissionResponse {
        node: node.map(|node| node.name.to_string()).unwrap_or_default(),
        state: node.map_or(NodeState::Unspecified, node_state).into(),
        vms: on(state, id),
        staying: staying
            .map(|(vm, stays)| StayingVm { vm: vm.to_string(), reason: stays.to_string() })
            .collect(),
    }
}
