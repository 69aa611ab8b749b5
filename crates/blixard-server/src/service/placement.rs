//! `PlacementService`: rebalancing and preemption.

use blixard_core::command::{Command, PlacementCommand};
use blixard_core::principal::Principal;
use blixard_core::schedule::rebalance::{self, Move, RebalancePlan};
use blixard_core::state::{ClusterState, HealthStatus, Phase, Run};
use blixard_proto::v1::placement_service_server::PlacementService;
use blixard_proto::v1::{RebalanceRequest, RebalanceResponse, SetPreemptionRequest, SetPreemptionResponse};
use blixard_proto::{preemption, random_id, rebalance_view};
use blixard_types::RequestId;
use tonic::{Request, Response, Status};

use crate::Server;

#[derive(Clone)]
pub struct PlacementApi {
    pub(super) server: Server,
}

impl PlacementApi {
    async fn propose(
        &self,
        (request_id, by): (&[u8], Option<Principal>),
        command: PlacementCommand,
    ) -> Result<(), Status> {
        let id = RequestId(random_id("request_id", request_id)?);
        self.server.ask_for((id, by), Command::Placement(command)).await.map(drop)
    }

    async fn rebalance(
        &self,
        request: RebalanceRequest,
        by: Option<Principal>,
    ) -> Result<RebalanceResponse, Status> {
        self.server.linearize().await?;
        if request.stop {
            self.propose((&request.request_id, by), PlacementCommand::EndRebalance).await?;
            return Ok(self.server.replica.read(|state| rebalance_view(state, &RebalancePlan::default())));
        }
        // A plan for thousands of vms takes a while, and entries would wait for it.
        let state = self.server.replica.read(ClusterState::clone);
        let planned = tokio::task::spawn_blocking(move || {
            let plan = rebalance::plan(&state);
            let view = rebalance_view(&state, &plan);
            (plan, view)
        });
        let (plan, mut answer) =
            planned.await.map_err(|error| Status::internal(format!("cannot plan: {error}")))?;
        if request.dry_run || plan.moves.is_empty() {
            return Ok(answer);
        }
        let moves: Vec<_> = plan.moves.iter().map(|one| (one.vm.clone(), one.epoch)).collect();
        let begin = PlacementCommand::Rebalance { moves, max_parallel: request.max_parallel.max(1) };
        self.propose((&request.request_id, by), begin).await?;
        self.server.wait(request.wait_ms, |state| unfinished(state, &plan.moves) == 0).await;
        answer.unfinished = self.server.replica.read(|state| unfinished(state, &plan.moves));
        Ok(answer)
    }
}

/// How many of these are still to be made, while the rebalancing goes on, or have not come up yet.
fn unfinished(state: &ClusterState, moves: &[Move]) -> u64 {
    let due = |one: &&Move| {
        let Some(vm) = state.vms.get(&one.vm) else { return false };
        let waits = state.rebalancing.as_ref().is_some_and(|of| of.moves.iter().any(|(vm, _)| *vm == one.vm));
        let healthy = matches!(
            &vm.run,
            Run::Placed { phase: Phase::Running { health: HealthStatus::Healthy, .. }, .. }
        );
        waits || vm.last_epoch > one.epoch && vm.wanted() && !healthy || vm.moves_from == Some(one.from)
    };
    moves.iter().filter(due).count() as u64
}

#[tonic::async_trait]
impl PlacementService for PlacementApi {
    async fn rebalance(
        &self,
        request: Request<RebalanceRequest>,
    ) -> Result<Response<RebalanceResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        Self::rebalance(self, request, by).await.map(Response::new)
    }

    async fn set_preemption(
        &self,
        request: Request<SetPreemptionRequest>,
    ) -> Result<Response<SetPreemptionResponse>, Status> {
        let (SetPreemptionRequest { request_id, on }, by) = self.server.asked(request)?;
        self.server.linearize().await?;
        let set = PlacementCommand::SetPreemption { preemption: preemption(on) };
        self.propose((&request_id, by), set).await?;
        let revision = self.server.replica.read(|state| state.applied.revision().0);
        Ok(Response::new(SetPreemptionResponse { on, revision }))
    }
}
