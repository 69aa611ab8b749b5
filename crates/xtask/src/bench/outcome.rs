//! What a benchmark found: rows of ours beside the peer's, and whether each is good enough. Pure.

use std::fmt::Write as _;

use serde::Serialize;

/// The result of one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    bench: String,
    /// How often each side was measured, by turns.
    rounds: u32,
    rows: Vec<Row>,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A measured pair, before it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) metric: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    /// The ratio to the peer that is required.
    pub(crate) must: f64,
    /// The ratio that is aimed at.
    pub(crate) goal: f64,
    pub(crate) better: Better,
}

/// One metric, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    metric: String,
    unit: String,
    ours: f64,
    peer: f64,
    /// `ours / peer`; absent when the peer has nothing to divide by.
    ratio: Option<f64>,
    must: f64,
    goal: f64,
    better: Better,
    /// Whether the ratio is at least as good as `must`.
    pass: bool,
}

impl Outcome {
    pub(crate) fn new(bench: &str, rounds: u32) -> Self {
        Self { bench: bench.to_owned(), rounds, rows: Vec::new() }
    }

    /// Adds a metric, judged.
    pub(crate) fn add(&mut self, measured: Measured<'_>) {
        let Measured { metric, unit, ours, peer, must, goal, better } = measured;
        let ratio = Some(ours / peer).filter(|ratio| ratio.is_finite());
        let pass = ratio.is_some_and(|ratio| match better {
            Better::Lower => ratio <= must,
            Better::Higher => ratio >= must,
        });
        let (metric, unit) = (metric.to_owned(), unit.to_owned());
        self.rows.push(Row { metric, unit, ours, peer, ratio, must, goal, better, pass });
    }

    /// Whether there is something measured, and every metric is as good as it must be.
    pub(crate) fn passes(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.pass)
    }

    /// The rows for a person.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("{} ({} rounds)\n", self.bench, self.rounds);
        for row in &self.rows {
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let verdict = if row.pass { "pass" } else { "FAIL" };
            // Writing to a string does not fail.
            let _ = writeln!(
                table,
                "{:<32} ours {:>10.2} {unit}  peer {:>10.2} {unit}  ratio {ratio} (must {}, goal {})  {verdict}",
                row.metric,
                row.ours,
                row.peer,
                row.must,
                row.goal,
                unit = row.unit,
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ours: f64, peer: f64, better: Better) -> Outcome {
        let mut outcome = Outcome::new("copy", 5);
        outcome.add(Measured { metric: "time", unit: "s", ours, peer, must: 1.25, goal: 1.0, better });
        outcome
    }

    #[test]
    fn a_time_passes_when_it_is_low_enough_beside_the_peer() {
        assert!(outcome(2.5, 2.0, Better::Lower).passes());
        assert!(!outcome(2.6, 2.0, Better::Lower).passes());
    }

    #[test]
    fn a_rate_passes_when_it_is_high_enough_beside_the_peer() {
        assert!(outcome(2.5, 2.0, Better::Higher).passes());
        assert!(!outcome(2.4, 2.0, Better::Higher).passes());
    }

    #[test]
    fn nothing_measured_passes_nothing() {
        assert!(!Outcome::new("copy", 5).passes());
        assert!(!outcome(1.0, 0.0, Better::Higher).passes());
        assert!(!outcome(f64::NAN, 1.0, Better::Lower).passes());
    }

    #[test]
    fn the_result_is_one_json_object_on_one_line() {
        assert_eq!(
            serde_json::to_string(&outcome(1.0, 2.0, Better::Lower)).unwrap(),
            r#"{"bench":"copy","rounds":5,"rows":[{"metric":"time","unit":"s","ours":1.0,"peer":2.0,"ratio":0.5,"must":1.25,"goal":1.0,"better":"lower","pass":true}]}"#
        );
    }

    #[test]
    fn the_table_names_what_fails() {
        assert!(outcome(9.0, 2.0, Better::Lower).table().contains("ratio 4.50 (must 1.25, goal 1)  FAIL"));
    }
}
