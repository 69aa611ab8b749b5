//! A vm whose closure is not there yet.

use super::*;

fn fetching(epoch: u64, generation: u64) -> Work {
    Work::Fetching { epoch: Epoch(epoch), generation: GenerationNumber(generation) }
}

fn lacking(epoch: u64, generation: u64) -> VmMemory {
    VmMemory { lacking: Some((Epoch(epoch), GenerationNumber(generation))), ..VmMemory::default() }
}

fn next(granted: &AssignmentSet, memory: VmMemory) -> Option<Action> {
    let memory = BTreeMap::from([(vm("web"), memory)]);
    plan(granted, &BTreeMap::new(), &memory, BootMillis(0)).actions.remove(&vm("web"))
}

fn granted(epoch: u64, intent: Intent) -> AssignmentSet {
    let assignment = Assignment { epoch: Epoch(epoch), intent };
    AssignmentSet { assignments: [(vm("web"), assignment)].into(), ..AssignmentSet::default() }
}

fn wanted(epoch: u64, generation: u64) -> AssignmentSet {
    let (generation, sources) = (GenerationNumber(generation), vec![]);
    let run = RunIntent { generation, closure: closure("a"), spec: spec(100), sources, volumes: [].into() };
    granted(epoch, Intent::Run(Box::new(run)))
}

#[test]
fn it_is_said_that_a_closure_is_fetched_and_then_it_is() {
    let report = VmReport::Fetching { generation: GenerationNumber(2) };
    let said = next(&wanted(1, 2), lacking(1, 2));
    assert_eq!(said, Some(Action::Report { epoch: Epoch(1), report: report.clone() }));
    let heard = VmMemory { acknowledged: Some((Epoch(1), report)), ..lacking(1, 2) };
    assert!(matches!(next(&wanted(1, 2), heard), Some(Action::Fetch { epoch: Epoch(1), .. })));
}

#[test]
fn what_was_lacking_of_another_generation_or_epoch_is_tried_first() {
    for memory in [lacking(1, 1), lacking(2, 2)] {
        let starting = VmReport::Starting { generation: GenerationNumber(2) };
        let said = next(&wanted(1, 2), memory);
        assert_eq!(said, Some(Action::Report { epoch: Epoch(1), report: starting }));
    }
}

#[test]
fn a_fetch_goes_on_while_it_is_wanted_and_is_given_up_when_it_is_not() {
    let busy = |work| VmMemory { work, ..VmMemory::default() };
    assert_eq!(next(&wanted(1, 2), busy(fetching(1, 2))), None);
    for other in [wanted(1, 3), wanted(2, 2), granted(1, Intent::Stop)] {
        assert_eq!(next(&other, busy(fetching(1, 2))), Some(Action::CancelFetch));
    }
    let nothing = AssignmentSet::default();
    let memory = BTreeMap::from([(vm("web"), busy(fetching(1, 2)))]);
    let units = BTreeMap::new();
    let _ = plan(&nothing, &units, &memory, BootMillis(0));
    assert!(
        stale_generations(&[(vm("web"), GenerationNumber(2))].into(), &nothing, &units, &memory).is_empty()
    );
}
