//! Where a vm may run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a vm may run, and what happens when its host is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Placement {
    /// What a cut-off host does with the vm.
    pub on_partition: OnPartition,
    /// What must be true of the host.
    pub constraints: Vec<Constraint>,
    /// Labels of vms it is better placed beside.
    pub affinity: BTreeMap<String, String>,
    /// Labels of vms it is better placed away from.
    pub anti_affinity: BTreeMap<String, String>,
    /// Who goes first when there is no room for all; higher goes first.
    pub priority: i32,
    /// Whether vms are spread over hosts or packed.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "spread"))]
    pub strategy: Strategy,
    /// Whether vms of lower priority make room for it when no host has any.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub preempts: bool,
}

/// What came to the schema after its first specs is written only where it says something: the digest of a
/// spec that does not use it is what it was.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which of the hosts that will do a vm is better placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one with the most free memory.
    #[default]
    Spread,
    /// The one with the least that suffices.
    Binpack,
}

/// The label that every vm has for the affinities of others: `tenant/name`.
pub const LABEL_VM: &str = "blixard/vm";
/// The label that every host has for constraints: its name.
pub const LABEL_NODE: &str = "blixard/node";

/// What a cut-off host does with a vm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnPartition {
    /// Stops it, so that it can be started elsewhere; it never runs twice.
    #[default]
    Stop,
    /// Keeps it running; it is not moved.
    Keep,
}

/// One condition on the labels of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constraint {
    /// The label's key.
    pub label: String,
    /// How its value is compared.
    pub operator: ConstraintOperator,
    /// What with; empty for `exists` and `absent`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How the value of a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConstraintOperator {
    /// It is one of the values.
    In,
    /// It is none of the values, or the label is not there.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    Absent,
}

impl Constraint {
    /// Whether it holds for the value that a host has for the label, if it has one.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|one| one == value));
        match self.operator {
            ConstraintOperator::In => listed,
            ConstraintOperator::NotIn => !listed,
            ConstraintOperator::Exists => value.is_some(),
            ConstraintOperator::Absent => value.is_none(),
        }
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (label, values) = (&self.label, self.values.join(", "));
        match self.operator {
            ConstraintOperator::In => write!(out, "label {label} in [{values}]"),
            ConstraintOperator::NotIn => write!(out, "label {label} not in [{values}]"),
            ConstraintOperator::Exists => write!(out, "label {label} exists"),
            ConstraintOperator::Absent => write!(out, "label {label} absent"),
        }
    }
}
