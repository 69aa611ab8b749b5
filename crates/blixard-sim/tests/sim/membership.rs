//! Members come and go, and no promise goes with them.

use blixard_sim::Shape;

use super::kept;

#[test]
fn changes_of_members_keep_every_promise_and_can_be_finished_by_another_leader() {
    kept(&Shape::members(), 1..=1);
}
