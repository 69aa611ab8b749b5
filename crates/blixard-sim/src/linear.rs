//! Is a history of one register linearizable?
//!
//! The search of Wing and Gong (1993) with the memory of Lowe (2017): operations are put in an order
//! that respects who ended before whom, one by one; a set of operations already placed that left the
//! same value is not tried twice. Registers are independent, so each is checked by itself.
//!
//! Knows nothing of where a history comes from.

use std::collections::BTreeSet;

use crate::history::{Action, Operation};

/// Why a history is not linearizable: the order that got furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLinearizable {
    /// As far as the search got.
    pub placed: Vec<Operation>,
    /// What could come next, and none of them does.
    pub stuck: Vec<Operation>,
}

/// Finds an order of the operations in which every read finds the last write before it. Every write has a
/// value of its own, which keeps the search short: see `Search::next`.
pub fn check(operations: &[Operation]) -> Result<(), NotLinearizable> {
    let operations = relevant(operations);
    let read = values_read(&operations);
    Search { operations: &operations, read, seen: BTreeSet::new(), furthest: Vec::new() }.run()
}

/// A write that was never answered and whose value nobody found need not have happened.
fn relevant(operations: &[Operation]) -> Vec<Operation> {
    let found = values_read(operations);
    let counts = |operation: &&Operation| match operation.action {
        Action::Write(value) => operation.ended.is_some() || found.contains(&value),
        Action::Read(_) => operation.ended.is_some(),
    };
    let mut relevant: Vec<Operation> = operations.iter().filter(counts).cloned().collect();
    relevant.sort_by_key(|operation| operation.begun);
    relevant
}

fn values_read(operations: &[Operation]) -> BTreeSet<u64> {
    let found = |operation: &Operation| match operation.action {
        Action::Read(found) => found,
        Action::Write(_) => None,
    };
    operations.iter().filter_map(found).collect()
}

struct Search<'a> {
    /// By their beginning.
    operations: &'a [Operation],
    /// The values that somebody found.
    read: BTreeSet<u64>,
    seen: BTreeSet<(Placed, Option<u64>)>,
    furthest: Vec<usize>,
}

/// Which operations were placed: all before `first` and these after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    first: usize,
    beyond: BTreeSet<usize>,
}

impl Placed {
    fn has(&self, at: usize) -> bool {
        at < self.first || self.beyond.contains(&at)
    }

    fn with(&self, at: usize) -> Self {
        let mut placed = self.clone();
        placed.beyond.insert(at);
        while placed.beyond.remove(&placed.first) {
            placed.first += 1;
        }
        placed
    }
}

/// A step of the search that can be taken back.
struct Step {
    placed: Placed,
    value: Option<u64>,
    /// What can come next and was not tried.
    next: Vec<usize>,
}

impl Search<'_> {
    fn run(mut self) -> Result<(), NotLinearizable> {
        let start = Placed::default();
        let mut order: Vec<usize> = Vec::new();
        let mut steps = vec![Step { next: self.next(&start, None), placed: start, value: None }];
        while let Some(step) = steps.last_mut() {
            if step.placed.first == self.operations.len() {
                return Ok(());
            }
            let Some(at) = step.next.pop() else {
                steps.pop();
                order.pop();
                continue;
            };
            let placed = step.placed.with(at);
            let value = match self.operations.get(at).map(|operation| operation.action) {
                Some(Action::Write(value)) => Some(value),
                _ => step.value,
            };
            if !self.seen.insert((placed.clone(), value)) {
                continue;
            }
            order.push(at);
            if order.len() > self.furthest.len() {
                self.furthest.clone_from(&order);
            }
            steps.push(Step { next: self.next(&placed, value), placed, value });
        }
        Err(self.failure())
    }

    /// What may come next: it began before all others ended, and a read finds what is there.
    fn next(&self, placed: &Placed, value: Option<u64>) -> Vec<usize> {
        let mut open = Vec::new();
        let mut first_end = u64::MAX;
        for (at, operation) in self.operations.iter().enumerate().skip(placed.first) {
            if operation.begun > first_end {
                break;
            }
            if !placed.has(at) {
                first_end = first_end.min(operation.ended.unwrap_or(u64::MAX));
                open.push(at);
            }
        }
        let fits = |at: &usize| match self.operations.get(*at).map(|operation| operation.action) {
            Some(Action::Read(found)) => found == value,
            _ => true,
        };
        // While somebody has yet to find the value that is there, a write would hide it for good.
        let wanted = |at: usize| {
            self.operations.get(at).map(|operation| operation.action) == Some(Action::Read(value))
        };
        if (placed.first..self.operations.len()).any(|at| !placed.has(at) && wanted(at)) {
            open.retain(|at| wanted(*at));
            return open.into_iter().rev().collect();
        }
        // Otherwise a write that nobody finds may as well come now: nothing is lost by it.
        let unread = |at: &usize| match self.operations.get(*at).map(|operation| operation.action) {
            Some(Action::Write(value)) => !self.read.contains(&value),
            _ => false,
        };
        if let Some(at) = open.iter().copied().find(unread) {
            return vec![at];
        }
        // The last is tried first: the earliest, which is right most often.
        open.into_iter().rev().filter(fits).collect()
    }

    fn failure(&self) -> NotLinearizable {
        let placed_set = self.furthest.iter().fold(Placed::default(), |placed, at| placed.with(*at));
        let operation = |at: &usize| self.operations.get(*at).cloned();
        let stuck = (placed_set.first..self.operations.len()).filter(|at| !placed_set.has(*at));
        NotLinearizable {
            placed: self.furthest.iter().filter_map(operation).collect(),
            stuck: stuck.filter_map(|at| operation(&at)).take(8).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, begun: u64, ended: u64) -> Operation {
        Operation { action: Action::Write(value), begun, ended: Some(ended) }
    }

    fn lost(value: u64, begun: u64) -> Operation {
        Operation { action: Action::Write(value), begun, ended: None }
    }

    fn read(found: Option<u64>, begun: u64, ended: u64) -> Operation {
        Operation { action: Action::Read(found), begun, ended: Some(ended) }
    }

    #[track_caller]
    fn holds(operations: &[Operation]) {
        check(operations).unwrap();
    }

    #[track_caller]
    fn fails(operations: &[Operation]) {
        check(operations).unwrap_err();
    }

    #[test]
    fn reads_find_the_last_write() {
        holds(&[]);
        holds(&[read(None, 1, 2), write(7, 3, 4), read(Some(7), 5, 6)]);
        fails(&[write(7, 1, 2), read(None, 3, 4)]);
        fails(&[read(Some(7), 1, 2), write(7, 3, 4)]);
        fails(&[read(Some(9), 1, 2)]);
    }

    #[test]
    fn a_read_beside_a_write_finds_either() {
        holds(&[write(7, 1, 4), read(None, 2, 3)]);
        holds(&[write(7, 1, 4), read(Some(7), 2, 3)]);
    }

    #[test]
    fn what_was_read_is_not_unread() {
        fails(&[write(1, 1, 2), write(2, 3, 9), read(Some(2), 4, 5), read(Some(1), 6, 7)]);
        holds(&[write(1, 1, 2), write(2, 3, 9), read(Some(1), 4, 5), read(Some(2), 6, 7)]);
    }

    #[test]
    fn a_write_without_an_answer_happened_late_early_or_never() {
        holds(&[write(1, 1, 2), lost(2, 3), read(Some(1), 4, 5), read(Some(2), 20, 21)]);
        holds(&[write(1, 1, 2), lost(2, 3), read(Some(1), 4, 5)]);
        fails(&[write(1, 1, 2), lost(2, 3), read(Some(2), 4, 5), read(Some(1), 6, 7)]);
        fails(&[read(Some(2), 1, 2), lost(2, 3)]);
    }

    #[test]
    fn many_at_once_are_decided() {
        let mut operations: Vec<_> = (1..=40).map(|value| write(value, value, 100 + value)).collect();
        operations.push(read(Some(17), 200, 201));
        holds(&operations);
        operations.push(read(Some(18), 202, 203));
        fails(&operations);
    }
}
