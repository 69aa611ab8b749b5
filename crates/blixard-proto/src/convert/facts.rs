//! What a machine is, and on which terms it takes vms.

use std::collections::BTreeSet;

use blixard_core::state::{CPU_OVERCOMMIT, NodeFacts, SharedStorage, Terms};
use blixard_types::VolumeName;
use blixard_types::spec::Hypervisor;

use super::{ConvertError, volume_name};
use crate::v1;

pub(crate) fn facts_to(facts: &NodeFacts) -> v1::NodeFacts {
    v1::NodeFacts {
        cpus: facts.cpus,
        memory_mib: facts.memory_mib,
        system: facts.system.clone(),
        kvm: facts.kvm,
        kernel: facts.kernel.clone(),
        version: facts.version.clone(),
        disk_mib: facts.disk_mib,
        hypervisors: names(&facts.hypervisors),
        nix_version: facts.nix_version.clone(),
        terms: Some(terms_to(&facts.terms)),
        shared_volumes: facts
            .shared
            .iter()
            .map(|(name, storage)| (name.to_string(), *storage == SharedStorage::Fenced))
            .collect(),
    }
}

fn terms_to(terms: &Terms) -> v1::HostTerms {
    v1::HostTerms {
        labels: terms.labels.clone().into_iter().collect(),
        cpu_overcommit: terms.cpu_overcommit,
        tenants: terms.tenants.iter().map(ToString::to_string).collect(),
        hypervisors: names(&terms.hypervisors),
    }
}

fn names(hypervisors: &BTreeSet<Hypervisor>) -> Vec<String> {
    hypervisors.iter().map(|hypervisor| hypervisor.name().to_owned()).collect()
}

pub(crate) fn facts_from(facts: Option<v1::NodeFacts>) -> Result<NodeFacts, ConvertError> {
    let facts = facts.ok_or_else(|| ConvertError::missing("facts"))?;
    Ok(NodeFacts {
        cpus: facts.cpus,
        memory_mib: facts.memory_mib,
        system: facts.system,
        kvm: facts.kvm,
        kernel: facts.kernel,
        version: facts.version,
        disk_mib: facts.disk_mib,
        hypervisors: hypervisors("facts.hypervisors", &facts.hypervisors)?,
        nix_version: facts.nix_version,
        terms: facts.terms.map(terms_from).transpose()?.unwrap_or_default(),
        shared: facts.shared_volumes.into_iter().map(shared_from).collect::<Result<_, _>>()?,
    })
}

fn shared_from((name, fenced): (String, bool)) -> Result<(VolumeName, SharedStorage), ConvertError> {
    Ok((volume_name(&name)?, if fenced { SharedStorage::Fenced } else { SharedStorage::Unfenced }))
}

fn terms_from(terms: v1::HostTerms) -> Result<Terms, ConvertError> {
    let tenants = terms.tenants.iter().map(|tenant| tenant.parse());
    let tenants =
        tenants.collect::<Result<_, _>>().map_err(|error| ConvertError::of("terms.tenants", &error))?;
    Ok(Terms {
        labels: terms.labels.into_iter().collect(),
        cpu_overcommit: if terms.cpu_overcommit == 0 { CPU_OVERCOMMIT } else { terms.cpu_overcommit },
        tenants,
        hypervisors: hypervisors("terms.hypervisors", &terms.hypervisors)?,
    })
}

fn hypervisors(field: &'static str, names: &[String]) -> Result<BTreeSet<Hypervisor>, ConvertError> {
    let known = |name: &String| {
        let known = Hypervisor::ALL.into_iter().find(|hypervisor| hypervisor.name() == name);
        known.ok_or_else(|| ConvertError::of(field, &format!("{name} is no known hypervisor")))
    };
    names.iter().map(known).collect()
}
