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
}

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
