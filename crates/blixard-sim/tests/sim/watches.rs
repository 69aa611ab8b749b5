//! Whoever watches is told all that happens, once and in order, whichever servers it watches at.

use blixard_sim::Shape;

use super::kept;

#[test]
fn watchers_that_go_on_at_other_servers_miss_nothing_and_are_told_nothing_twice() {
    let reports = kept(&Shape::servers(), 1..=2);
    let resumed: u64 = reports.iter().map(|report| report.resumed).sum();
    assert!(resumed > 10, "hardly any watch went on: {resumed}");
}
