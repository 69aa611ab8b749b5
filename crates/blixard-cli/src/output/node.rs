//! Whether vms are placed on a node, and what is still there: as JSON and as people read it.

use std::io::{self, Write};

use blixard_proto::v1;
use serde::Serialize;

use super::{node_state, one_line};

/// `node cordon`, `node uncordon`, `node drain`.
#[derive(Debug, Serialize)]
pub(crate) struct Admission {
    node: String,
    /// ready, cordoned, draining, lost, leaving, joining.
    state: &'static str,
    /// The vms that are there.
    vms: u64,
    /// Of a node that is drained: those that stay for now.
    staying: Vec<Staying>,
}

/// A vm that stays on a node that is drained, for now.
#[derive(Debug, Serialize)]
struct Staying {
    vm: String,
    reason: String,
}

/// `node lost`.
#[derive(Debug, Serialize)]
pub(crate) struct Lost {
    node: String,
    /// The vms that are still waited for there.
    vms: u64,
    /// What spoke against it.
    warnings: Vec<String>,
}

impl From<v1::SetAdmissionResponse> for Admission {
    fn from(answer: v1::SetAdmissionResponse) -> Self {
        let staying = answer.staying.into_iter();
        Self {
            node: answer.node,
            state: node_state(answer.state),
            vms: answer.vms,
            staying: staying.map(|one| Staying { vm: one.vm, reason: one.reason }).collect(),
        }
    }
}

impl From<v1::DeclareLostResponse> for Lost {
    fn from(answer: v1::DeclareLostResponse) -> Self {
        Self { node: answer.node, vms: answer.vms, warnings: answer.warnings }
    }
}

impl Admission {
    pub(crate) fn is_empty(&self) -> bool {
        self.vms == 0
    }

    pub(crate) fn still_there(&self) -> String {
        format!("{} vms are still on {}", self.vms, self.node)
    }
}

pub(crate) fn admission(out: &mut dyn Write, told: &Admission) -> io::Result<()> {
    writeln!(out, "{}: {}, {} vms", told.node, told.state, told.vms)?;
    told.staying.iter().try_for_each(|one| writeln!(out, "  {} stays: {}", one.vm, one_line(&one.reason)))
}

pub(crate) fn lost(out: &mut dyn Write, told: &Lost) -> io::Result<()> {
    writeln!(out, "{}: declared lost, {} vms are still waited for", told.node, told.vms)?;
    told.warnings.iter().try_for_each(|warning| writeln!(out, "  warning: {}", one_line(warning)))
}
