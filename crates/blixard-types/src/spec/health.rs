//! When a vm counts as healthy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A vm is healthy once it is READY (if its runner notifies) or has been active for `activeForMs`,
/// and all checks have passed, within `deadlineMs` of its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Health {
    /// How long a runner that does not notify must have been active.
    #[schemars(range(max = 3_600_000))]
    pub active_for_ms: u64,
    /// By when a vm must be healthy after its start.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub deadline_ms: u64,
    /// What must answer besides.
    pub checks: Vec<Check>,
}

impl Default for Health {
    fn default() -> Self {
        Self { active_for_ms: 3000, deadline_ms: 120_000, checks: Vec::new() }
    }
}

/// Something that must answer, asked from the vm's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Check {
    /// A TCP connection is accepted.
    Tcp {
        /// The guest's address, `10.0.0.2:80` or `[fd00::2]:80`.
        address: String,
    },
    /// A plain HTTP GET is answered with a status from 200 to 399.
    Http {
        /// The guest's address, as for `tcp`.
        address: String,
        /// What is asked for, from `/` on.
        path: String,
    },
}
