//! Whether a deployment will fit into the log, known before anything of it is built.
//!
//! Owns: the largest that its command can become. Refuses to know: the limit; the proposer has that.

use blixard_core::admission::AdmittedVm;
use blixard_core::command::{Command, Deploy, Envelope, VmDefinition};
use blixard_core::ports::UnixMillis;
use blixard_core::signature::BuilderSignature;
use blixard_types::{ClosureRef, DeploymentId, NodeId, Sha256Hash};
use tonic::Status;

use super::DeployOrder;
use crate::{proposer, status};

/// Refuses what would be refused when it is proposed.
pub(super) fn check(order: &DeployOrder, vms: &[AdmittedVm]) -> Result<(), Status> {
    let command = Command::Deploy(Deploy {
        deployment: DeploymentId(order.request.0),
        source: order.id.clone(),
        take_over: order.take_over,
        vms: vms.iter().map(largest).collect(),
        builder: Some(BuilderSignature { node: NodeId(u64::MAX), signature: [u8::MAX; 64] }),
    });
    let at = UnixMillis(u64::MAX);
    let envelope = Envelope { request: order.request, at, by: order.by, command };
    proposer::encode(&envelope).map(drop).map_err(|failure| status::propose(&failure))
}

/// The definition as it will be, but for the numbers of its closure, which are as long as they can be.
fn largest(vm: &AdmittedVm) -> VmDefinition {
    let AdmittedVm { vm, drv, out, system, spec } = vm.clone();
    let hash = Sha256Hash([u8::MAX; 32]);
    let closure = ClosureRef {
        root: out,
        nar_hash: hash,
        closure_digest: hash,
        path_count: u64::MAX,
        nar_size: u64::MAX,
    };
    VmDefinition { vm, drv, system, closure, spec }
}

#[cfg(test)]
mod tests {
    use blixard_core::command::TakeOver;
    use blixard_core::ports::nix::{LockedSource, Selection};
    use blixard_core::principal::Principal;
    use blixard_proto::encode_envelope;
    use blixard_types::{RequestId, Spec, StorePath};

    use super::super::Effect;
    use super::*;

    fn store_path(name: &str) -> StorePath {
        format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{name}").parse().unwrap()
    }

    fn order() -> DeployOrder {
        let source = LockedSource {
            path: store_path("source"),
            nar_hash: Sha256Hash([1; 32]),
            rev: None,
            rev_count: None,
            last_modified: None,
            subdir: String::new(),
            lock: None,
        };
        DeployOrder {
            request: RequestId([5; 16]),
            by: Some(Principal::User { node: NodeId(3), uid: 1000 }),
            id: "git+https://example.org/machines".parse().unwrap(),
            source,
            selection: Selection::All,
            take_over: TakeOver::Refuse,
            effect: Effect::DryRun,
        }
    }

    fn admitted(count: usize) -> Vec<AdmittedVm> {
        let name = "n".repeat(40);
        let vm = |number: usize| AdmittedVm {
            vm: format!("{name}/{name}-{number}").parse().unwrap(),
            drv: store_path(&format!("microvm-{name}-{number}.drv")),
            out: store_path(&format!("microvm-{name}-{number}")),
            system: "x86_64-linux".to_owned(),
            spec: Spec::minimal(1, 512),
        };
        (0..count).map(vm).collect()
    }

    #[test]
    fn five_hundred_vms_with_long_names_fit_and_too_many_are_refused_with_the_cure() {
        check(&order(), &admitted(500)).unwrap();
        let refused = check(&order(), &admitted(1500)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("the limit is 983040"), "{}", refused.message());
    }

    #[test]
    fn what_is_proposed_in_the_end_is_never_larger() {
        let foretold = largest(&admitted(1)[0]);
        let closure = ClosureRef { path_count: 900, nar_size: 3 << 30, ..foretold.closure.clone() };
        let real = VmDefinition { closure, ..foretold.clone() };
        let size = |vms: Vec<VmDefinition>| {
            let command = Command::Deploy(Deploy {
                deployment: DeploymentId([5; 16]),
                source: order().id,
                take_over: TakeOver::Refuse,
                vms,
                builder: Some(BuilderSignature { node: NodeId(3), signature: [1; 64] }),
            });
            let envelope = Envelope {
                request: RequestId([5; 16]),
                at: UnixMillis(1_800_000_000_000),
                by: None,
                command,
            };
            encode_envelope(&envelope).unwrap().len()
        };
        assert!(size(vec![real]) <= size(vec![foretold]));
    }
}
