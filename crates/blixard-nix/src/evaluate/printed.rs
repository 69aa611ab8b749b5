//! Reads what the evaluation printed.
//!
//! Owns: its shape, which is `evaluate.nix`'s. Refuses to know: what a spec says.

use blixard_core::ports::nix::{EvaluateError, EvaluatedVm};
use blixard_types::StorePath;
use serde::Deserialize;
use serde_json::Value;

/// The result of `evaluate.nix`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Printed {
    /// Names asked for that are not there.
    pub(super) missing: Vec<String>,
    /// The vms; none if a name is missing.
    vms: Vec<PrintedVm>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedVm {
    attribute: String,
    drv: Value,
    out: Value,
    system: Value,
    spec: Value,
}

impl Printed {
    pub(super) fn parse(json: &[u8]) -> Result<Self, EvaluateError> {
        serde_json::from_slice(json).map_err(|cause| malformed(cause.to_string()))
    }

    pub(super) fn into_vms(self) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        self.vms.into_iter().map(PrintedVm::check).collect()
    }
}

impl PrintedVm {
    /// A flake can put anything where a path should be.
    fn check(self) -> Result<EvaluatedVm, EvaluateError> {
        let Self { attribute, drv, out, system, spec } = self;
        let wrong = |field: &str, value: &Value, wanted: &str| {
            malformed(format!("{field} of `microvms.{attribute}` is {value}, not {wanted}"))
        };
        let path = |value: &Value| value.as_str().and_then(|text| text.parse::<StorePath>().ok());
        let drv = path(&drv)
            .filter(StorePath::is_derivation)
            .ok_or_else(|| wrong("drvPath", &drv, "a derivation in the store"))?;
        let out =
            path(&out).ok_or_else(|| wrong("outPath", &out, "a store path known before it is built"))?;
        let system = system.as_str().ok_or_else(|| wrong("system", &system, "a string"))?.to_owned();
        Ok(EvaluatedVm { attribute, drv, out, system, spec })
    }
}

/// Reads a list of names.
pub(super) fn names(json: &[u8]) -> Result<Vec<String>, EvaluateError> {
    serde_json::from_slice(json).map_err(|cause| malformed(cause.to_string()))
}

fn malformed(reason: String) -> EvaluateError {
    EvaluateError::Malformed { reason }
}
