//! From what a flake gave to what may be deployed: names, specs, and what this version can do.
//!
//! Every problem of every vm is found before anything is built, so that one look suffices to mend all.

use std::collections::BTreeMap;

use blixard_types::spec::{Claim, Interface, InterfaceKind, Share, ShareProtocol};
use blixard_types::{NameError, STORE_DIR, Spec, SpecError, StorePath, VmId, VmName};
use serde_json::Value;

use crate::ports::nix::{EvaluatedVm, FlakeOutput};

/// A vm whose definition is sound; not built yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedVm {
    /// The vm.
    pub vm: VmId,
    /// The runner's derivation.
    pub drv: StorePath,
    /// The runner.
    pub out: StorePath,
    /// The platform, `x86_64-linux`.
    pub system: String,
    /// The spec.
    pub spec: Spec,
}

/// Why a vm cannot be deployed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}.{}: {problem}", output.name(), shown(attribute))]
pub struct AdmissionError {
    /// The flake's output.
    pub output: FlakeOutput,
    /// The attribute under that.
    pub attribute: String,
    /// What is wrong.
    pub problem: AdmissionProblem,
}

/// The key as it stands in the flake; what is wrong with the whole has none.
fn of_spec(error: &SpecError) -> String {
    match error.key.as_str() {
        "spec" => format!("blixard: {}", error.problem),
        key => format!("blixard.{key}: {}", error.problem),
    }
}

/// An attribute as a person would write it: quoted where it is not a plain word, and on one line.
fn shown(attribute: &str) -> String {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-'".contains(&byte);
    let starts = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    if attribute.bytes().all(is_part) && attribute.as_bytes().first().is_some_and(starts) {
        attribute.to_owned()
    } else {
        format!("{attribute:?}").replace('$', "\\$")
    }
}

/// What is wrong with a vm.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionProblem {
    /// The attribute is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no spec.
    #[error("the derivation has no `blixard` attribute: it is not a microVM for Blixard")]
    NoSpec,
    /// The spec is wrong.
    #[error("{}", of_spec(.0))]
    Spec(#[from] SpecError),
    /// Right, but more than this version does. Refused, because ignoring it would run another vm than
    /// the one described.
    #[error("blixard.{key}: {what} are not supported by this version")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What stands there.
        what: &'static str,
    },
    /// Two attributes give the same vm.
    #[error("{other} is the vm {vm} already")]
    SameVm {
        /// The other attribute.
        other: String,
        /// The vm.
        vm: VmId,
    },
    /// Two vms claim what only one can have.
    #[error("{claim} is claimed by {other} already")]
    Claimed {
        /// The claim.
        claim: Claim,
        /// The other attribute.
        other: String,
    },
}

/// Checks what a flake gave.
///
/// # Errors
/// All problems of all vms; of a spec that cannot be read, the first.
pub fn admit(evaluated: Vec<EvaluatedVm>) -> Result<Vec<AdmittedVm>, Vec<AdmissionError>> {
    let mut admitted = Vec::new();
    let mut problems = Vec::new();
    let mut seen = Seen::default();
    for vm in evaluated {
        let (output, attribute) = (vm.output, vm.attribute.clone());
        let name = format!("{}.{}", output.name(), shown(&attribute));
        match admit_one(vm).and_then(|vm| seen.take_in(name, vm)) {
            Ok(vm) => admitted.push(vm),
            Err(found) => problems.extend(found.into_iter().map(|problem| AdmissionError {
                output,
                attribute: attribute.clone(),
                problem,
            })),
        }
    }
    if problems.is_empty() { Ok(admitted) } else { Err(problems) }
}

/// What the vms before have, by the attribute that has it.
#[derive(Debug, Default)]
struct Seen {
    vms: BTreeMap<VmId, String>,
    claims: BTreeMap<Claim, String>,
}

impl Seen {
    fn take_in(&mut self, name: String, vm: AdmittedVm) -> Result<AdmittedVm, Vec<AdmissionProblem>> {
        if let Some(other) = self.vms.get(&vm.vm) {
            return Err(vec![AdmissionProblem::SameVm { other: other.clone(), vm: vm.vm }]);
        }
        let claims = vm.spec.claims();
        let taken = claims.iter().filter_map(|claim| Some((claim, self.claims.get(claim)?)));
        let taken: Vec<_> = taken
            .map(|(claim, other)| AdmissionProblem::Claimed { claim: claim.clone(), other: other.clone() })
            .collect();
        if !taken.is_empty() {
            return Err(taken);
        }
        self.claims.extend(claims.into_iter().map(|claim| (claim, name.clone())));
        self.vms.insert(vm.vm.clone(), name);
        Ok(vm)
    }
}

fn admit_one(evaluated: EvaluatedVm) -> Result<AdmittedVm, Vec<AdmissionProblem>> {
    let EvaluatedVm { output: _, attribute, drv, out, system, spec } = evaluated;
    let name = attribute.parse::<VmName>().map_err(AdmissionProblem::from);
    let spec = admit_spec(&spec);
    match (name, spec) {
        (Ok(name), Ok(spec)) => {
            let vm = VmId::new(spec.tenant.clone(), name).map_err(|error| vec![error.into()])?;
            Ok(AdmittedVm { vm, drv, out, system, spec })
        }
        (name, spec) => Err(name.err().into_iter().chain(spec.err().into_iter().flatten()).collect()),
    }
}

fn admit_spec(json: &Value) -> Result<Spec, Vec<AdmissionProblem>> {
    if json.is_null() {
        return Err(vec![AdmissionProblem::NoSpec]);
    }
    let spec = Spec::from_json(json).map_err(|error| vec![error.into()])?;
    let unsupported = unsupported(&spec);
    if unsupported.is_empty() { Ok(spec) } else { Err(unsupported) }
}

/// What a spec may say that this version does not do.
fn unsupported(spec: &Spec) -> Vec<AdmissionProblem> {
    let macvtap = |interface: &Interface| interface.kind == InterfaceKind::Macvtap;
    let asked = [
        (spec.interfaces.iter().any(macvtap), "interfaces", "macvtap interfaces"),
        (spec.shares.iter().any(|share| !is_store(share)), "shares", "shares other than /nix/store by 9p"),
        (!spec.devices.is_empty(), "devices", "host devices"),
    ];
    asked
        .into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, key, what)| AdmissionProblem::Unsupported { key, what })
        .collect()
}

/// The host's store: the hypervisor itself reads it, nothing has to be started, and nobody can write there.
fn is_store(share: &Share) -> bool {
    share.protocol == ShareProtocol::NineP && share.source == STORE_DIR
}

#[cfg(test)]
mod tests;
