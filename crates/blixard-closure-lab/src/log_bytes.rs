//! What a deployed vm costs in the log.

use blixard_core::command::{Command, Deploy, Envelope, TakeOver, VmDefinition};
use blixard_core::ports::UnixMillis;
use blixard_core::signature::BuilderSignature;
use blixard_proto::encode_envelope;
use blixard_types::{DeploymentId, Manifest, NodeId, PathRecord, RequestId, Sha256Hash, Spec, StorePath};

/// The bytes of the command that deploys one vm whose closure has so many paths, without its spec.
pub(crate) fn measure(paths: u32) -> anyhow::Result<usize> {
    let path = |number: u32| -> anyhow::Result<StorePath> {
        let name = format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-hello-{number:06}");
        Ok(name.parse()?)
    };
    let record = |number: u32| {
        let (path, next) = (path(number)?, path((number + 1) % paths)?);
        let nar_hash = Sha256Hash::of(path.as_str().as_bytes());
        anyhow::Ok(PathRecord { path, nar_hash, nar_size: 700_000, references: [next].into() })
    };
    let records = (0..paths).map(record).collect::<anyhow::Result<Vec<_>>>()?;
    let spec = Spec::minimal(2, 512);
    let without = spec.to_canonical_json()?.len();
    let vm = VmDefinition {
        vm: "default/hello".parse()?,
        drv: "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-hello.drv".parse()?,
        system: "x86_64-linux".to_owned(),
        closure: Manifest::new(path(0)?, records)?.closure_ref()?,
        spec,
    };
    let command = Command::Deploy(Deploy {
        deployment: DeploymentId([1; 16]),
        source: "git+https://example.org/a/flake/of/machines".parse()?,
        take_over: TakeOver::Refuse,
        vms: vec![vm],
        builder: Some(BuilderSignature { node: NodeId(1), signature: [1; 64] }),
    });
    let at = UnixMillis(1_700_000_000_000);
    Ok(encode_envelope(&Envelope { request: RequestId([2; 16]), at, by: None, command })?.len() - without)
}
