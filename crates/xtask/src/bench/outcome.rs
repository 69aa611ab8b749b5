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

/// Figures of both sides, round by round, before they are judged by the median of the rounds' ratios.
#[derive(Debug, Clone)]
pub(crate) struct Rounds<'a> {
    pub(crate) metric: &'a str,
    pub(crate) unit: &'a str,
    /// Ours and the peer's.
    pub(crate) pairs: Vec<(f64, f64)>,
    /// The ratio to the peer that is required.
    pub(crate) must: f64,
    /// The ratio that is aimed at.
    pub(crate) goal: f64,
}

/// A figure that has a limit and no peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) metric: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) ours: f64,
    /// The limit, in the figure's own unit.
    pub(crate) must: f64,
}

/// One metric, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    metric: String,
    unit: String,
    ours: f64,
    /// Absent for a figure that has a plain limit.
    peer: Option<f64>,
    /// The median of the rounds' `ours / peer`; absent without a peer, and when there is nothing to divide
    /// by.
    ratio: Option<f64>,
    /// Of the ratio; of the figure itself if it has no peer.
    must: f64,
    goal: f64,
    better: Better,
    /// Whether that is at least as good as `must`.
    pass: bool,
}

impl Outcome {
    pub(crate) fn new(bench: &str, rounds: u32) -> Self {
        Self { bench: bench.to_owned(), rounds, rows: Vec::new() }
    }

    /// Adds times beside a peer's, judged: less is better.
    pub(crate) fn add_rounds(&mut self, rounds: &Rounds<'_>) {
        self.add_figures(rounds, Better::Lower);
    }

    /// Adds figures beside a peer's, judged.
    pub(crate) fn add_figures(&mut self, rounds: &Rounds<'_>, better: Better) {
        let Rounds { metric, unit, pairs, must, goal } = rounds;
        let of = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure).collect());
        let ratio = of(|(ours, peer)| ours / peer).filter(|ratio| ratio.is_finite());
        self.rows.push(Row {
            metric: (*metric).to_owned(),
            unit: (*unit).to_owned(),
            ours: of(|pair| pair.0).unwrap_or(f64::NAN),
            peer: of(|pair| pair.1),
            ratio,
            must: *must,
            goal: *goal,
            better,
            pass: ratio.is_some_and(|ratio| better.reaches(ratio, *must)),
        });
    }

    /// Adds a figure that has a limit, judged.
    pub(crate) fn add_limit(&mut self, limit: &Limit<'_>, better: Better) {
        self.add_aim(limit, limit.must, better);
    }

    /// As [`Self::add_limit`], with what is aimed at.
    pub(crate) fn add_aim(&mut self, limit: &Limit<'_>, goal: f64, better: Better) {
        let Limit { metric, unit, ours, must } = *limit;
        let (metric, unit, pass) = (metric.to_owned(), unit.to_owned(), better.reaches(ours, must));
        self.rows.push(Row { metric, unit, ours, peer: None, ratio: None, must, goal, better, pass });
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
            let peer = row.peer.map_or_else(|| "-".to_owned(), |peer| format!("{peer:.2}"));
            let _ = writeln!(
                table,
                "{:<32} ours {:>10.2} {unit}  peer {peer:>10} {unit}  ratio {ratio} (must {}, goal {})  {verdict}",
                row.metric,
                row.ours,
                row.must,
                row.goal,
                unit = row.unit,
            );
        }
        table
    }
}

impl Better {
    /// Whether a figure is as good as the one that is required. What is no number reaches nothing.
    fn reaches(self, figure: f64, must: f64) -> bool {
        match self {
            Self::Lower => figure <= must,
            Self::Higher => figure >= must,
        }
    }
}

/// What a figure must reach that is only reported: anything.
pub(crate) const ANYTHING: f64 = f64::INFINITY;

/// The middle one; the mean of both in the middle of an even number.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    let lower = if figures.len().is_multiple_of(2) { *figures.get(middle - 1)? } else { upper };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pairs: &[(f64, f64)]) -> Outcome {
        let mut outcome = Outcome::new("copy", 5);
        let pairs = pairs.to_vec();
        outcome.add_rounds(&Rounds { metric: "time", unit: "s", pairs, must: 1.25, goal: 1.0 });
        outcome
    }

    fn limited(ours: f64, better: Better) -> Outcome {
        let mut outcome = Outcome::new("memory", 1);
        outcome.add_limit(&Limit { metric: "RSS", unit: "MB", ours, must: 60.0 }, better);
        outcome
    }

    #[test]
    fn a_time_passes_when_it_is_low_enough_beside_the_peer() {
        assert!(outcome(&[(2.5, 2.0)]).passes());
        assert!(!outcome(&[(2.6, 2.0)]).passes());
    }

    #[test]
    fn a_throughput_passes_when_it_is_high_enough_beside_the_peer() {
        let judged = |ours| {
            let mut outcome = Outcome::new("writes", 1);
            let pairs = vec![(ours, 2.0)];
            let rounds = Rounds { metric: "writes", unit: "1/s", pairs, must: 1.5, goal: 2.2 };
            outcome.add_figures(&rounds, Better::Higher);
            outcome.passes()
        };
        assert!(judged(3.0));
        assert!(!judged(2.9));
    }

    #[test]
    fn rounds_are_judged_by_the_median_of_their_ratios() {
        // One slow minute of the machine counts for one round, on whichever side it fell.
        assert!(outcome(&[(1.0, 1.0), (90.0, 1.0), (100.0, 100.0)]).passes());
        assert!(!outcome(&[(2.0, 1.0), (2.0, 1.0), (1.0, 90.0)]).passes());
        assert!(!outcome(&[(1.0, 1.0), (2.0, 1.0)]).passes(), "half of each is 1.5");
    }

    #[test]
    fn a_figure_with_a_limit_passes_within_it() {
        assert!(limited(60.0, Better::Lower).passes());
        assert!(!limited(60.1, Better::Lower).passes());
        assert!(limited(60.0, Better::Higher).passes());
        assert!(!limited(59.9, Better::Higher).passes());
        assert!(!limited(f64::NAN, Better::Lower).passes());
    }

    #[test]
    fn nothing_measured_passes_nothing() {
        assert!(!Outcome::new("copy", 5).passes());
        assert!(!outcome(&[]).passes());
        assert!(!outcome(&[(1.0, 0.0)]).passes());
        assert!(!outcome(&[(f64::NAN, 1.0)]).passes());
    }

    #[test]
    fn the_result_is_one_json_object_on_one_line() {
        let mut both = outcome(&[(1.0, 2.0)]);
        both.rows.extend(limited(30.0, Better::Lower).rows);
        assert_eq!(
            serde_json::to_string(&both).unwrap(),
            concat!(
                r#"{"bench":"copy","rounds":5,"rows":[{"metric":"time","unit":"s","ours":1.0,"peer":2.0,"ratio":0.5,"#,
                r#""must":1.25,"goal":1.0,"better":"lower","pass":true},{"metric":"RSS","unit":"MB","ours":30.0,"#,
                r#""peer":null,"ratio":null,"must":60.0,"goal":60.0,"better":"lower","pass":true}]}"#
            )
        );
    }

    #[test]
    fn the_table_names_what_fails() {
        assert!(outcome(&[(9.0, 2.0)]).table().contains("ratio 4.50 (must 1.25, goal 1)  FAIL"));
    }
}
