//! Names of the systemd units and slices of a vm.
//!
//! Each component is escaped as `systemd-escape` does (`-` becomes `\x2d`), so that the vms `a/b-c`
//! and `a-b/c` have different units, and a tenant's slice does not nest in another's by accident
//! (systemd reads `-` in a slice name as a level).

use std::fmt;

use crate::name::{TenantName, VmId};

/// Longest unit name that systemd accepts (`UNIT_NAME_MAX` is 256 with the final zero byte).
pub const UNIT_NAME_MAX: usize = 255;

/// What the name of every unit of a vm begins with.
pub const VM_UNIT_PREFIX: &str = "blixard-vm-";

/// The unit of the holder of the host's lease: when it goes, everything goes that is bound to it.
pub const LEASE_UNIT: &str = "blixard-lease.service";

/// The unit that shuts guests down in good order when the machine goes down, before their units are stopped.
pub const DRAIN_UNIT: &str = "blixard-drain.service";

/// There while guests are shut down with their machine: their ends are no failures, and none is started.
pub const GOING_DOWN: &str = "/run/blixard-drain/down";

const RUN_SUFFIX: &str = "-run.service";
const STOP_SUFFIX: &str = "-stop.service";

/// The unit that runs a vm's hypervisor: `blixard-vm-<tenant>-<name>-run.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunUnitName(String);

impl RunUnitName {
    /// The unit of this vm.
    #[must_use]
    pub fn of(vm: &VmId) -> Self {
        let (tenant, name) = (escape(vm.tenant().as_str()), escape(vm.name().as_str()));
        Self(format!("{VM_UNIT_PREFIX}{tenant}-{name}{RUN_SUFFIX}"))
    }

    /// The vm that a unit of this name runs; `None` if it is not the run unit of any vm.
    pub fn vm(unit: &str) -> Option<VmId> {
        let (tenant, name) = unit.strip_prefix(VM_UNIT_PREFIX)?.strip_suffix(RUN_SUFFIX)?.split_once('-')?;
        let vm = VmId::new(unescape(tenant)?.parse().ok()?, unescape(name)?.parse().ok()?).ok()?;
        (Self::of(&vm).as_str() == unit).then_some(vm)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its cgroup may be, below the root of the hierarchy: also of a unit that systemd has forgotten.
    #[must_use]
    pub fn control_groups(&self) -> Vec<String> {
        let below = |slice: &str, tenant: &TenantName| {
            format!("/{slice}.slice/{slice}-{}.slice/{}", escape(tenant.as_str()), self.0)
        };
        let tenant = Self::vm(&self.0).map(|vm| vm.tenant().clone());
        tenant.iter().flat_map(|tenant| [below("blixard", tenant), below("blixardkeep", tenant)]).collect()
    }
}

/// The unit that asks a vm's guest to shut down: `blixard-vm-<tenant>-<name>-stop.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StopUnitName(String);

impl StopUnitName {
    /// The unit of this vm.
    #[must_use]
    pub fn of(vm: &VmId) -> Self {
        let (tenant, name) = (escape(vm.tenant().as_str()), escape(vm.name().as_str()));
        Self(format!("{VM_UNIT_PREFIX}{tenant}-{name}{STOP_SUFFIX}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StopUnitName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for RunUnitName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The slice of a tenant's vms, below `blixard.slice`: what a fence kills.
#[must_use]
pub fn tenant_slice(tenant: &TenantName) -> String {
    format!("blixard-{}.slice", escape(tenant.as_str()))
}

/// The slice of a tenant's vms with `onPartition = "keep"`, outside `blixard.slice`.
#[must_use]
pub fn tenant_keep_slice(tenant: &TenantName) -> String {
    format!("blixardkeep-{}.slice", escape(tenant.as_str()))
}

/// Escapes one component. Names hold only `a-z`, `0-9` and `-`, of which systemd escapes the last.
fn escape(component: &str) -> String {
    component.replace('-', r"\x2d")
}

fn unescape(component: &str) -> Option<String> {
    let plain = component.replace(r"\x2d", "-");
    (!plain.contains('\\')).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(vm: &str) -> String {
        RunUnitName::of(&vm.parse().unwrap()).to_string()
    }

    #[test]
    fn a_dash_in_a_name_is_not_a_separator() {
        assert_eq!(unit("web"), "blixard-vm-default-web-run.service");
        assert_eq!(unit("a/b-c"), r"blixard-vm-a-b\x2dc-run.service");
        assert_eq!(unit("a-b/c"), r"blixard-vm-a\x2db-c-run.service");
        assert_eq!(tenant_slice(&"a-b".parse().unwrap()), r"blixard-a\x2db.slice");
        assert_eq!(tenant_keep_slice(&"a-b".parse().unwrap()), r"blixardkeep-a\x2db.slice");
    }

    #[test]
    fn the_cgroup_of_a_unit_is_in_its_tenants_slice() {
        let name = RunUnitName::of(&"a-b/web".parse().unwrap());
        assert_eq!(
            name.control_groups(),
            [
                r"/blixard.slice/blixard-a\x2db.slice/blixard-vm-a\x2db-web-run.service",
                r"/blixardkeep.slice/blixardkeep-a\x2db.slice/blixard-vm-a\x2db-web-run.service",
            ]
        );
    }

    #[test]
    fn units_of_others_are_no_vms() {
        for name in [
            "",
            "ssh.service",
            "blixard-vm-run.service",
            "blixard-vm-a-run.service",
            "blixard-vm-a-b-net.service",
            "blixard-vm-a-b-c-run.service",
            r"blixard-vm-a-b\x2fc-run.service",
            "blixard-vm-A-b-run.service",
        ] {
            assert_eq!(RunUnitName::vm(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_unit_name_leads_back_to_its_vm_and_to_no_other(
            tenant in "[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?", name in "[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?",
        ) {
            let vm: VmId = format!("{tenant}/{name}").parse().unwrap();
            prop_assert_eq!(RunUnitName::vm(RunUnitName::of(&vm).as_str()), Some(vm));
        }
    }
}
