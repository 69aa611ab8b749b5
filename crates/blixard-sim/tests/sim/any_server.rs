//! Calls to any server reach the leader, are applied once, and are linearizable with all others.

use blixard_sim::Shape;

use super::kept;

#[test]
fn writes_and_reads_at_any_server_are_linearizable_and_applied_once() {
    let reports = kept(&Shape::servers(), 3..=4);
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    assert!(acknowledged > 50, "hardly anything was written: {acknowledged}");
}
