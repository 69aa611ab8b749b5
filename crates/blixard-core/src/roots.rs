//! Names of garbage collector roots: what keeps which path.
//!
//! ```text
//! builds/<deployment>/<tenant>/<name>    by the builder, before the deployment is proposed
//! vms/<tenant>/<name>/<generation>       by the host, before the generation is started
//! uploads/<upload>/<path>                by the builder, for as long as the upload's call lasts
//! ```
//! Owns: the folders and their forms. Refuses to know: when a root is made or removed.

use blixard_types::{DeploymentId, GenerationNumber, StorePath, UploadId, VmId};

use crate::ports::nix::RootName;

const BUILDS: &str = "builds";
const VMS: &str = "vms";
const UPLOADS: &str = "uploads";

/// The builder's root of what a deployment built for a vm.
#[must_use]
pub fn build_root(deployment: DeploymentId, vm: &VmId) -> RootName {
    RootName(format!("{BUILDS}/{deployment}/{}/{}", vm.tenant(), vm.name()))
}

/// The deployment and vm of a builder's root.
#[must_use]
pub fn build_of(root: &RootName) -> Option<(DeploymentId, VmId)> {
    let (deployment, vm) = root.0.strip_prefix(BUILDS)?.strip_prefix('/')?.split_once('/')?;
    Some((deployment.parse().ok()?, vm.parse().ok()?))
}

/// The host's root of a generation.
#[must_use]
pub fn generation_root(vm: &VmId, generation: GenerationNumber) -> RootName {
    RootName(format!("{VMS}/{}/{}/{generation}", vm.tenant(), vm.name()))
}

/// The vm and generation of a host's root.
#[must_use]
pub fn generation_of(root: &RootName) -> Option<(VmId, GenerationNumber)> {
    let (vm, generation) = root.0.strip_prefix(VMS)?.strip_prefix('/')?.rsplit_once('/')?;
    Some((vm.parse().ok()?, GenerationNumber(generation.parse().ok()?)))
}

/// The root of a source that a caller needs.
#[must_use]
pub fn upload_root(upload: UploadId, path: &StorePath) -> RootName {
    RootName(format!("{UPLOADS}/{upload}/{}", path.basename()))
}

/// The upload of such a root.
#[must_use]
pub fn upload_of(root: &RootName) -> Option<UploadId> {
    let (upload, _) = root.0.strip_prefix(UPLOADS)?.strip_prefix('/')?.split_once('/')?;
    upload.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_root_leads_back_to_its_vm_and_generation() {
        let vm: VmId = "tenant/web".parse().unwrap();
        let root = generation_root(&vm, GenerationNumber(12));
        assert_eq!(root.0, "vms/tenant/web/12");
        assert_eq!(generation_of(&root), Some((vm, GenerationNumber(12))));
        for other in ["builds/00/default/web", "vms/web", "vms/a/b/c/1", "vms/a/b/x", "vms"] {
            assert_eq!(generation_of(&RootName(other.to_owned())), None, "{other}");
        }
    }

    #[test]
    fn a_builders_root_leads_back_to_its_deployment_and_vm() {
        let (vm, deployment) = ("tenant/web".parse::<VmId>().unwrap(), DeploymentId([7; 16]));
        let root = build_root(deployment, &vm);
        assert_eq!(root.0, format!("builds/{deployment}/tenant/web"));
        assert_eq!(build_of(&root), Some((deployment, vm)));
        for other in ["vms/tenant/web/12", "builds/x/tenant/web", "builds", "builds/a"] {
            assert_eq!(build_of(&RootName(other.to_owned())), None, "{other}");
        }
    }

    #[test]
    fn a_root_of_a_source_leads_back_to_its_upload() {
        let path = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source".parse().unwrap();
        let root = upload_root(UploadId([7; 16]), &path);
        assert_eq!(root.0, format!("uploads/{}/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source", "07".repeat(16)));
        assert_eq!(upload_of(&root), Some(UploadId([7; 16])));
        for other in ["uploads", "uploads/a/b", "builds/00/default/web"] {
            assert_eq!(upload_of(&RootName(other.to_owned())), None, "{other}");
        }
    }
}
