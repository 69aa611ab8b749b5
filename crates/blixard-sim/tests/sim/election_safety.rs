//! At most one node leads in a term.

use blixard_sim::Shape;

use super::kept;

#[test]
fn at_most_one_leads_in_a_term_however_the_network_falls_apart() {
    let reports = kept(&Shape::partitions(), 1..=1);
    let terms: usize = reports.iter().map(|report| report.terms).sum();
    assert!(terms > 1, "hardly anybody was elected: {terms} terms");
}
