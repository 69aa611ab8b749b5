//! The words for each state, as in tables and JSON. A number of a newer daemon is `unknown`.

use blixard_proto::v1::{Desired, NodeState, Role, Stage, VmChange, VmStatus};

const UNKNOWN: &str = "unknown";

pub(crate) fn vm_status(number: i32) -> &'static str {
    match VmStatus::try_from(number) {
        Ok(VmStatus::Pending) => "pending",
        Ok(VmStatus::Fetching) => "fetching",
        Ok(VmStatus::Starting) => "starting",
        Ok(VmStatus::Running) => "running",
        Ok(VmStatus::Healthy) => "healthy",
        Ok(VmStatus::Unhealthy) => "unhealthy",
        Ok(VmStatus::Stopping) => "stopping",
        Ok(VmStatus::Stopped) => "stopped",
        Ok(VmStatus::Failed) => "failed",
        Ok(VmStatus::Succeeded) => "succeeded",
        Ok(VmStatus::Deleting) => "deleting",
        Ok(VmStatus::Unspecified) | Err(_) => UNKNOWN,
    }
}

pub(crate) fn desired(number: i32) -> &'static str {
    match Desired::try_from(number) {
        Ok(Desired::Running) => "running",
        Ok(Desired::Stopped) => "stopped",
        Ok(Desired::Unspecified) | Err(_) => UNKNOWN,
    }
}

pub(crate) fn node_state(number: i32) -> &'static str {
    match NodeState::try_from(number) {
        Ok(NodeState::Joining) => "joining",
        Ok(NodeState::Ready) => "ready",
        Ok(NodeState::Leaving) => "leaving",
        Ok(NodeState::Cordoned) => "cordoned",
        Ok(NodeState::Draining) => "draining",
        Ok(NodeState::Lost) => "lost",
        Ok(NodeState::Unspecified) | Err(_) => UNKNOWN,
    }
}

pub(crate) fn role(number: i32) -> &'static str {
    match Role::try_from(number) {
        Ok(Role::Server) => "server",
        Ok(Role::Host) => "host",
        Ok(Role::Builder) => "builder",
        Ok(Role::Unspecified) | Err(_) => UNKNOWN,
    }
}

pub(crate) fn change(number: i32) -> &'static str {
    match VmChange::try_from(number) {
        Ok(VmChange::Added) => "added",
        Ok(VmChange::Changed) => "changed",
        Ok(VmChange::Unchanged) => "unchanged",
        Ok(VmChange::Unspecified) | Err(_) => UNKNOWN,
    }
}

pub(crate) fn stage(number: i32) -> &'static str {
    match Stage::try_from(number) {
        Ok(Stage::Placing) => "placing",
        Ok(Stage::Fetching) => "fetching",
        Ok(Stage::Starting) => "starting",
        Ok(Stage::Checking) => "checking",
        Ok(Stage::Healthy) => "healthy",
        Ok(Stage::Stopped) => "stopped",
        Ok(Stage::Failed) => "failed",
        Ok(Stage::Runs) => "running",
        Ok(Stage::Succeeded) => "succeeded",
        Ok(Stage::Superseded) => "superseded",
        Ok(Stage::Unspecified) | Err(_) => UNKNOWN,
    }
}
