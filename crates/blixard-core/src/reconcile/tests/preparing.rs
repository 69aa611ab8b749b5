//! A new generation on the host of the one before it.

use super::*;

/// Generation 1 runs at epoch 1, and this is known of its successor.
fn memory(generation: u64, outcome: Option<Prepared>) -> VmMemory {
    let (epoch, generation) = (Epoch(1), GenerationNumber(generation));
    VmMemory { preparation: Some(Preparation { epoch, generation, outcome }), ..started(1, 1) }
}

fn failed_at(at: u64) -> Prepared {
    Prepared::Failed { reason: "n2 is away".to_owned(), at: BootMillis(at) }
}

fn said(memory: VmMemory, trouble: Option<&str>) -> VmMemory {
    let trouble = trouble.map(str::to_owned);
    acknowledged(memory, 1, VmReport::Preparing { generation: GenerationNumber(2), trouble })
}

#[test]
fn what_runs_is_stopped_once_its_successor_is_there_and_not_before() {
    let next = |memory, expected| check(Some(run(1, 2)), Some(active(1, 1)), memory, expected);
    next(started(1, 1), "root 2 at 1 beside what runs");
    next(memory(2, None), "wait");
    next(memory(2, Some(Prepared::Lacking)), "report at 1: preparing 2");
    next(said(memory(2, Some(Prepared::Lacking)), None), "fetch 2 at 1 beside what runs");
    next(memory(2, Some(Prepared::Ready)), "stop what is replaced");
}

#[test]
fn what_cannot_be_had_ends_nothing_and_is_said_and_tried_again() {
    let next = |now, memory, expected| check_at(now, Some(run(1, 2)), Some(active(1, 1)), memory, expected);
    next(500, memory(2, Some(failed_at(500))), "report at 1: preparing 2, in vain: n2 is away");
    next(500, said(memory(2, Some(failed_at(500))), Some("n2 is away")), "wait until 30500");
    next(30_500, said(memory(2, Some(failed_at(500))), Some("n2 is away")), "fetch 2 at 1 beside what runs");
}

#[test]
fn what_was_prepared_of_another_generation_counts_for_nothing() {
    for outcome in [Prepared::Ready, Prepared::Lacking] {
        let other = memory(3, Some(outcome));
        check(Some(run(1, 2)), Some(active(1, 1)), other, "root 2 at 1 beside what runs");
    }
    check(Some(run(1, 2)), Some(active(1, 1)), memory(3, None), "prepare no more");
}

#[test]
fn a_preparation_is_given_up_when_something_else_is_wanted_or_nothing_runs_any_more() {
    check(
        Some(stop(1)),
        Some(active(1, 1)),
        memory(2, None),
        "prepare no more, make sure that 0 at 1 has ended: it was told to stop",
    );
    check(None, Some(active(1, 1)), memory(2, None), "prepare no more, stop the orphan");
    check(
        Some(run(1, 2)),
        Some(unit(1, 1, gone())),
        memory(2, None),
        "prepare no more, stop what is replaced",
    );
    check(Some(run(1, 2)), None, memory(2, None), "prepare no more, report at 1: starting 2");
    check(Some(run(1, 2)), Some(active(1, 1)), memory(2, None), "wait");
}

#[test]
fn the_root_of_what_is_prepared_stays() {
    let rooted = [(vm("web"), GenerationNumber(2))].into();
    let (granted, units) = (AssignmentSet::default(), BTreeMap::new());
    let memories = |outcome| BTreeMap::from([(vm("web"), memory(2, outcome))]);
    assert!(stale_generations(&rooted, &granted, &units, &memories(None)).is_empty());
    let ready = memories(Some(Prepared::Ready));
    assert_eq!(stale_generations(&rooted, &granted, &units, &ready), [(vm("web"), GenerationNumber(2))]);
}
