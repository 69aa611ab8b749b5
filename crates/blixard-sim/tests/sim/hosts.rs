//! Every vm runs on one host at a time, and in the end on the one where it should, whatever dies or is cut off.

use blixard_sim::Shape;

use super::kept;

#[test]
fn no_vm_is_executed_twice_and_each_runs_once_when_all_is_healed() {
    let reports = kept(&Shape::cluster(), 2..=3);
    let executions: u64 = reports.iter().map(|report| report.executions).sum();
    assert!(executions > 20, "hardly anything was executed: {executions}");
    let lost: usize = reports.iter().map(|report| report.hosts_lost).sum();
    assert!(lost > 0, "no host was given up");
}

#[test]
fn a_machine_joins_and_another_server_is_removed_while_vms_are_moved_and_nodes_die() {
    kept(&Shape::renewal(), 1..=1);
}
