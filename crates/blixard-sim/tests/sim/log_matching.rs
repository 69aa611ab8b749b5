//! Where two logs have an entry of one term at one index, they are the same up to it; what is applied
//! at an index is the same on all nodes, before and after a crash.

use blixard_sim::Shape;

use super::kept;

#[test]
fn all_nodes_killed_at_once_under_load_come_back_with_the_same_log_and_state() {
    let reports = kept(&Shape::all_killed(), 1..=2);
    let crashes: u64 = reports.iter().map(|report| report.crashes).sum();
    assert!(crashes > 10, "hardly anything crashed: {crashes}");
}
