//! A seed is a run: the same one every time.

use std::time::Duration;

use blixard_sim::{Shape, run};

#[track_caller]
fn repeats(shape: &Shape) {
    let (first, second) = (run(shape, 3), run(shape, 3));
    assert_eq!(first.events, second.events);
    assert_eq!(first, second);
}

#[test]
fn two_runs_of_a_seed_see_the_same_events_and_the_same_bytes_whatever_crashes() {
    repeats(&Shape::disks());
    repeats(&Shape::all_killed());
}

#[test]
fn two_runs_of_a_seed_of_servers_over_grpc_are_the_same() {
    repeats(&Shape::servers());
}

#[test]
fn two_runs_of_a_seed_of_hosts_are_the_same() {
    repeats(&Shape { chaos: Duration::from_secs(8), ..Shape::cluster() });
}

#[test]
fn another_seed_is_another_run() {
    let shape = Shape::crashes();
    assert_ne!(run(&shape, 3).digest, run(&shape, 4).digest);
}
