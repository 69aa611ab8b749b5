//! Why a vm is where it is: as JSON and as people read it.

use std::io::{self, Write};

use blixard_proto::v1::{self, node_verdict};
use serde::Serialize;

use super::cluster::{Event, event_of_vm};
use super::json::some;
use super::table::Table;
use super::{one_line, vm_status};

const NOTHING: &str = "-";
/// What a task is that is placed no more.
const DONE: &str = "succeeded";

/// `vm explain`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    vm: String,
    status: &'static str,
    /// The node it is on.
    node: Option<String>,
    /// What it waits for, if it should run and cannot.
    waiting_on: Option<String>,
    /// The node it would be placed on if it were placed now.
    best: Option<String>,
    /// Those that will do first, the best first.
    nodes: Vec<Verdict>,
    /// What somebody asked of it last.
    asked: Option<Event>,
    /// The revision of the cluster's state that this is.
    revision: u64,
}

/// What is to be said of a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    id: u64,
    name: String,
    /// Why it will not do; null if it will.
    refusal: Option<String>,
    /// How good it is; null if it will not do.
    merit: Option<Merit>,
}

/// How good a node is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Merit {
    points: i32,
    /// Of them, for affinities that are met.
    affinity: i32,
    /// Of them, for vms there that it is better placed away from.
    anti_affinity: i32,
    /// Of them, for its last run.
    history: i32,
    /// Without the vm.
    free_memory_mib: u64,
}

impl From<v1::ExplainVmResponse> for Explanation {
    fn from(answer: v1::ExplainVmResponse) -> Self {
        Self {
            vm: answer.vm,
            status: vm_status(answer.status),
            node: some(answer.node),
            waiting_on: some(answer.waiting_on),
            best: some(answer.best),
            nodes: answer.verdicts.into_iter().map(Verdict::from).collect(),
            asked: answer.asked.map(Event::from),
            revision: answer.revision,
        }
    }
}

impl From<v1::NodeVerdict> for Verdict {
    fn from(verdict: v1::NodeVerdict) -> Self {
        let (id, name) = (verdict.node, verdict.name);
        let (refusal, merit) = match verdict.verdict {
            Some(node_verdict::Verdict::Refusal(refusal)) => (Some(refusal), None),
            Some(node_verdict::Verdict::Merit(merit)) => (None, Some(Merit::from(merit))),
            // A newer daemon says something that this program does not know.
            None => (None, None),
        };
        Self { id, name, refusal, merit }
    }
}

impl From<node_verdict::Merit> for Merit {
    fn from(merit: node_verdict::Merit) -> Self {
        Self {
            points: merit.points,
            affinity: merit.affinity,
            anti_affinity: merit.anti_affinity,
            history: merit.history,
            free_memory_mib: merit.free_memory_mib,
        }
    }
}

pub(crate) fn explanation(out: &mut dyn Write, told: &Explanation) -> io::Result<()> {
    let vm = &told.vm;
    match &told.node {
        Some(node) => writeln!(out, "{vm} is {} on {node}.", told.status)?,
        None => writeln!(out, "{vm} is {} and on no host.", told.status)?,
    }
    if let Some(asked) = &told.asked {
        write!(out, "Asked last: ")?;
        event_of_vm(out, asked)?;
    }
    if let Some(waiting) = &told.waiting_on {
        writeln!(out, "It waits: {}", one_line(waiting))?;
    }
    match &told.best {
        _ if told.status == DONE => {
            writeln!(out, "It has run to its end; `blixard vm start` or a new generation runs it again.")?;
        }
        Some(best) => writeln!(out, "Placed now, it would go to {best}.")?,
        None => writeln!(out, "Placed now, it would find no host.")?,
    }
    writeln!(out)?;
    let mut table = Table::new(["NODE", "POINTS", "FREE MEMORY", "BECAUSE"]);
    for verdict in &told.nodes {
        let merit = verdict.merit.as_ref();
        table.row([
            verdict.name.clone(),
            merit.map_or_else(|| NOTHING.to_owned(), |merit| merit.points.to_string()),
            merit.map_or_else(|| NOTHING.to_owned(), |merit| format!("{} MiB", merit.free_memory_mib)),
            because(verdict),
        ]);
    }
    table.write(out)
}

fn because(verdict: &Verdict) -> String {
    if let Some(refusal) = &verdict.refusal {
        return format!("refused: {}", one_line(refusal));
    }
    let Some(merit) = &verdict.merit else { return "unknown".to_owned() };
    let of = [
        (merit.affinity, "near vms it likes"),
        (merit.anti_affinity, "near vms it avoids"),
        (merit.history, if merit.history < 0 { "failed there" } else { "was there last" }),
    ];
    let told =
        of.iter().filter(|(points, _)| *points != 0).map(|(points, why)| format!("{why} ({points:+})"));
    told.collect::<Vec<_>>().join(", ")
}
