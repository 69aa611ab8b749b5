//! Reads what the evaluation printed.
//!
//! Owns: its shape, which is `evaluate.nix`'s. Refuses to know: what a spec says.

use blixard_core::ports::nix::{EvaluateError, EvaluatedVm, FlakeOutput};
use blixard_types::StorePath;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::expression::Wanted;

/// The result of `evaluate.nix`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed<T> {
    /// Whether the flake defines vms at all.
    provides: bool,
    /// What was asked for and is not there.
    missing: Vec<PrintedName>,
    /// The vms; none if one is missing.
    vms: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedName {
    output: PrintedOutput,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedVm {
    output: PrintedOutput,
    name: String,
    drv: Value,
    out: Value,
    system: Value,
    spec: Value,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PrintedOutput {
    Microvms,
    NixosConfigurations,
}

impl From<PrintedOutput> for FlakeOutput {
    fn from(output: PrintedOutput) -> Self {
        match output {
            PrintedOutput::Microvms => Self::Microvms,
            PrintedOutput::NixosConfigurations => Self::Configurations,
        }
    }
}

/// Reads the description of vms.
pub(super) fn vms(json: &[u8]) -> Result<Vec<EvaluatedVm>, EvaluateError> {
    parse(json)?.into_iter().map(PrintedVm::check).collect()
}

/// Reads which vms there are.
pub(super) fn names(json: &[u8]) -> Result<Vec<Wanted>, EvaluateError> {
    let wanted = |name: PrintedName| Wanted { output: Some(name.output.into()), name: name.name };
    Ok(parse(json)?.into_iter().map(wanted).collect())
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<Vec<T>, EvaluateError> {
    let printed: Printed<T> = serde_json::from_slice(json).map_err(|cause| malformed(cause.to_string()))?;
    if !printed.provides {
        return Err(EvaluateError::NoMicrovms);
    }
    match printed.missing.into_iter().next() {
        Some(PrintedName { output, name }) => {
            Err(EvaluateError::NoSuchVm { output: output.into(), attribute: name })
        }
        None => Ok(printed.vms),
    }
}

impl PrintedVm {
    /// A flake can put anything where a path should be.
    fn check(self) -> Result<EvaluatedVm, EvaluateError> {
        let Self { output, name: attribute, drv, out, system, spec } = self;
        let output = FlakeOutput::from(output);
        let wrong = |field: &str, value: &Value, wanted: &str| {
            malformed(format!("{field} of `{}.{attribute}` is {value}, not {wanted}", output.name()))
        };
        let path = |value: &Value| value.as_str().and_then(|text| text.parse::<StorePath>().ok());
        let drv = path(&drv)
            .filter(StorePath::is_derivation)
            .ok_or_else(|| wrong("drvPath", &drv, "a derivation in the store"))?;
        let out =
            path(&out).ok_or_else(|| wrong("outPath", &out, "a store path known before it is built"))?;
        let system = system.as_str().ok_or_else(|| wrong("system", &system, "a string"))?.to_owned();
        Ok(EvaluatedVm { output, attribute, drv, out, system, spec })
    }
}

fn malformed(reason: String) -> EvaluateError {
    EvaluateError::Malformed { reason }
}
