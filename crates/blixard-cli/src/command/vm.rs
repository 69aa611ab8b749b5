//! `blixard vm …`, except logs.
//!
//! Owns: what a person is told of a vm, and how long to wait for it. Refuses to know: how a vm gets from
//! one status to another.

use std::time::Duration;

use blixard_proto::v1::vm_service_client::VmServiceClient;
use blixard_proto::v1::{
    DeleteVmRequest, Desired, GetVmRequest, ListVmsRequest, RestartVmRequest, SetDesiredRequest, VmStatus,
};
use blixard_types::{TenantName, VmId};
use tonic::transport::Channel;

use super::{ANSWER_MAX, Session, call, request_id, waiting_call};
use crate::args::{ChangeArgs, DeleteArgs};
use crate::error::{ErrorKind, Failure};
use crate::output::json::{self, Deleted, History, Vm, Vms};
use crate::output::{Format, set_in, text};

/// How long `vm start` waits: placing, fetching and booting a small guest takes seconds.
const START_WAIT: Duration = Duration::from_mins(2);

/// How long `vm stop` and `vm delete` wait beside the time the guest itself may take.
const STOP_WAIT: Duration = Duration::from_mins(1);

/// A vm that did not get where it was sent in the time there was.
#[derive(Debug, thiserror::Error)]
enum NotThere {
    #[error("vm {vm} is {status}{}", because(reason.as_deref()))]
    Status { vm: String, status: &'static str, reason: Option<String> },
    #[error("vm {vm} is still being stopped")]
    Deleting { vm: String },
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {}", set_in(reason, 2))).unwrap_or_default()
}

impl From<NotThere> for Failure {
    fn from(error: NotThere) -> Self {
        let hint = match &error {
            NotThere::Status { vm, .. } => {
                format!("`blixard vm show {vm}` and `blixard vm logs {vm}` may tell more")
            }
            NotThere::Deleting { .. } => {
                "it goes on by itself; `blixard vm list` shows when it is gone".into()
            }
        };
        Self::new(ErrorKind::NotThere, error).hint(hint)
    }
}

fn client(session: &Session<'_>) -> VmServiceClient<Channel> {
    VmServiceClient::new(session.channel.clone()).max_decoding_message_size(ANSWER_MAX)
}

pub(super) async fn list(
    session: &mut Session<'_>,
    tenant: Option<TenantName>,
    stale: bool,
) -> Result<(), Failure> {
    let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
    let answer = client(session).list(call(ListVmsRequest { tenant, stale })).await?.into_inner();
    let vms = answer.vms.into_iter().map(Vm::from).collect();
    let vms = Vms { vms, revision: answer.revision };
    match session.format {
        Format::Json => json::write(session.out, &vms),
        Format::Table if vms.vms.is_empty() => {
            session.notes.line("no vms");
            Ok(())
        }
        Format::Table => Ok(text::vms(session.out, &vms.vms)?),
    }
}

pub(super) async fn show(session: &mut Session<'_>, vm: &VmId, stale: bool) -> Result<(), Failure> {
    let vm = Vm::from(get(session, vm, stale).await?);
    match session.format {
        Format::Json => json::write(session.out, &vm),
        Format::Table => Ok(text::vm(session.out, &vm)?),
    }
}

pub(super) async fn history(session: &mut Session<'_>, vm: &VmId) -> Result<(), Failure> {
    let history = History::from(Vm::from(get(session, vm, false).await?));
    match session.format {
        Format::Json => json::write(session.out, &history),
        Format::Table => Ok(text::history(session.out, &history)?),
    }
}

async fn get(session: &Session<'_>, vm: &VmId, stale: bool) -> Result<blixard_proto::v1::Vm, Failure> {
    Ok(client(session).get(call(GetVmRequest { vm: vm.to_string(), stale })).await?.into_inner())
}

pub(super) async fn start(session: &mut Session<'_>, args: &ChangeArgs) -> Result<(), Failure> {
    let wait = if args.no_wait { Duration::ZERO } else { START_WAIT };
    set_desired(session, args, Desired::Running, wait).await
}

pub(super) async fn stop(session: &mut Session<'_>, args: &ChangeArgs) -> Result<(), Failure> {
    let wait = stop_wait(session, args).await?;
    set_desired(session, args, Desired::Stopped, wait).await
}

/// A guest may take as long as its flake says to shut down.
async fn stop_wait(session: &Session<'_>, args: &ChangeArgs) -> Result<Duration, Failure> {
    if args.no_wait {
        return Ok(Duration::ZERO);
    }
    let vm = Vm::from(get(session, &args.vm.vm, false).await?);
    let own = vm.spec.get("stopTimeoutMs").and_then(serde_json::Value::as_u64).unwrap_or_default();
    Ok(STOP_WAIT.saturating_add(Duration::from_millis(own)))
}

async fn set_desired(
    session: &mut Session<'_>,
    args: &ChangeArgs,
    desired: Desired,
    wait: Duration,
) -> Result<(), Failure> {
    let request = SetDesiredRequest {
        request_id: request_id()?.to_vec().into(),
        vm: args.vm.vm.to_string(),
        desired: desired.into(),
        wait_ms: millis(wait),
    };
    announce(session, args, wait);
    let answer = client(session).set_desired(waiting_call(request, wait)).await?.into_inner();
    changed(session, args, answer, desired)
}

/// The old run may take its time to end, and the new one to begin.
pub(super) async fn restart(session: &mut Session<'_>, args: &ChangeArgs) -> Result<(), Failure> {
    let stop = stop_wait(session, args).await?;
    let wait = if args.no_wait { stop } else { stop.saturating_add(START_WAIT) };
    let request = RestartVmRequest {
        request_id: request_id()?.to_vec().into(),
        vm: args.vm.vm.to_string(),
        wait_ms: millis(wait),
    };
    announce(session, args, wait);
    let answer = client(session).restart(waiting_call(request, wait)).await?.into_inner();
    changed(session, args, answer, Desired::Running)
}

fn is_task(vm: &blixard_proto::v1::Vm) -> bool {
    let spec = serde_json::from_str::<serde_json::Value>(&vm.spec).unwrap_or_default();
    spec.get("kind").is_some_and(|kind| kind == "task")
}

/// Tells what has become of a vm.
fn changed(
    session: &mut Session<'_>,
    args: &ChangeArgs,
    answer: blixard_proto::v1::Vm,
    desired: Desired,
) -> Result<(), Failure> {
    let there = match desired {
        Desired::Stopped => answer.status == i32::from(VmStatus::Stopped),
        // Of a task nobody knows more than that it runs.
        _ if is_task(&answer) => {
            [VmStatus::Running, VmStatus::Succeeded].map(i32::from).contains(&answer.status)
        }
        _ => answer.status == i32::from(VmStatus::Healthy),
    };
    let vm = Vm::from(answer);
    let done = there || args.no_wait;
    let written = match session.format {
        Format::Json => json::write(session.out, &vm),
        Format::Table if done => {
            let on = vm.node.as_ref().filter(|_| desired == Desired::Running);
            let on = on.map(|node| format!(" on {node}")).unwrap_or_default();
            writeln!(session.out, "{}: {}{on}", vm.vm, vm.status).map_err(Failure::from)
        }
        Format::Table => Ok(()),
    };
    // What became of the vm counts more than whether somebody reads it.
    if done {
        written
    } else {
        Err(NotThere::Status { vm: vm.vm, status: vm.status, reason: vm.reason }.into())
    }
}

fn announce(session: &mut Session<'_>, args: &ChangeArgs, wait: Duration) {
    if !args.no_wait {
        session.notes.line(format_args!("waiting up to {} s for {}", wait.as_secs(), args.vm.vm));
    }
}

pub(super) async fn delete(session: &mut Session<'_>, args: &DeleteArgs) -> Result<(), Failure> {
    let wait = stop_wait(session, &args.change).await?;
    announce(session, &args.change, wait);
    let vm = args.change.vm.vm.to_string();
    let request = DeleteVmRequest {
        request_id: request_id()?.to_vec().into(),
        vm: vm.clone(),
        wait_ms: millis(wait),
        discard_files: args.volumes,
    };
    let answer = client(session).delete(waiting_call(request, wait)).await?.into_inner();
    let (gone, kept_on) = (answer.gone, json::some(answer.kept_on));
    let done = gone || args.change.no_wait;
    if let Some(node) = &kept_on {
        let folder = format!("vms/{vm} of its state directory");
        session.notes.line(format_args!("files of its guest, if there are any, stay on {node} in {folder}"));
    }
    let written = match session.format {
        Format::Json => json::write(session.out, &Deleted { vm: vm.clone(), gone, kept_on }),
        Format::Table if done => {
            let word = if gone { "deleted" } else { "deleting" };
            writeln!(session.out, "{vm}: {word}").map_err(Failure::from)
        }
        Format::Table => Ok(()),
    };
    if done { written } else { Err(NotThere::Deleting { vm }.into()) }
}

/// Shows what deleting a vm takes away.
pub(super) async fn would_delete(session: &mut Session<'_>, args: &DeleteArgs) -> Result<(), Failure> {
    let vm = Vm::from(get(session, &args.change.vm.vm, false).await?);
    match session.format {
        Format::Json => json::write(session.out, &json::WouldDelete::of(&vm, args.volumes)),
        Format::Table => Ok(text::would_delete(session.out, &vm, args.volumes)?),
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
