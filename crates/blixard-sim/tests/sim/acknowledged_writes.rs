//! What was acknowledged is never lost.

use blixard_sim::Shape;

use super::kept;

#[test]
fn no_acknowledged_write_is_lost_when_disks_fail_fill_up_or_lose_power() {
    let reports = kept(&Shape::disks(), 1..=2);
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    assert!(acknowledged > 50, "hardly anything was written: {acknowledged}");
}
