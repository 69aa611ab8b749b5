//! What a machine is, as JSON.

use std::collections::BTreeMap;

use blixard_proto::v1;
use serde::Serialize;

/// What a machine is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeFacts {
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    /// Space for volumes; null where it is not known.
    pub(crate) disk_mib: Option<u64>,
    /// In Nix's words, x86_64-linux.
    pub(crate) system: String,
    pub(crate) kvm: bool,
    /// Those with a program in PATH; a runner brings its own.
    pub(crate) hypervisors: Vec<String>,
    pub(crate) kernel: String,
    /// Null where there is no Nix.
    pub(crate) nix_version: Option<String>,
    /// Of its daemon.
    pub(crate) version: String,
    /// On which terms it takes vms; null if an older daemon does not say.
    pub(crate) terms: Option<Terms>,
}

/// On which terms a machine takes vms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Terms {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cpu_overcommit: u32,
    /// Whose vms; everybody's if empty.
    pub(crate) tenants: Vec<String>,
    /// Under which hypervisors; any if empty.
    pub(crate) hypervisors: Vec<String>,
}

impl From<v1::NodeFacts> for NodeFacts {
    fn from(facts: v1::NodeFacts) -> Self {
        Self {
            cpus: facts.cpus,
            memory_mib: facts.memory_mib,
            disk_mib: facts.disk_mib,
            system: facts.system,
            kvm: facts.kvm,
            hypervisors: facts.hypervisors,
            kernel: facts.kernel,
            nix_version: super::json::some(facts.nix_version),
            version: facts.version,
            terms: facts.terms.map(|terms| Terms {
                labels: terms.labels,
                cpu_overcommit: terms.cpu_overcommit,
                tenants: terms.tenants,
                hypervisors: terms.hypervisors,
            }),
        }
    }
}
