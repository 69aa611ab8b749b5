//! Writes and linearizable reads, by quorum and by lease, look as if they happened one after the other.

use blixard_sim::Shape;

use super::kept;

#[test]
fn reads_and_writes_are_linearizable_while_nodes_crash_and_links_break() {
    kept(&Shape::crashes(), 1..=2);
}
