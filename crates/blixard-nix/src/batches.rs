//! Splits long argument lists, so that no command line outgrows the kernel's limit.
//!
//! Owns: the budget. Refuses to know: what the arguments are.

/// Bytes of arguments for one process. Linux allows 2 MiB for arguments and environment together when
/// the stack limit is the usual 8 MiB, and 128 KiB for one argument.
pub(crate) const ARGUMENT_BUDGET: usize = 96 * 1024;

/// What the kernel counts for an argument besides its bytes: the pointer and the NUL.
const ARGUMENT_OVERHEAD: usize = 9;

/// Consecutive runs of `items`, each within the budget, or a single item that is over it by itself.
pub(crate) fn batches<T>(items: &[T], text: impl Fn(&T) -> &str) -> Vec<&[T]> {
    let mut runs = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let (run, next) = rest.split_at(fitting(rest, &text));
        runs.push(run);
        rest = next;
    }
    runs
}

fn fitting<T>(items: &[T], text: &impl Fn(&T) -> &str) -> usize {
    let mut used = 0;
    let within = items
        .iter()
        .take_while(|item| {
            used += text(item).len() + ARGUMENT_OVERHEAD;
            used <= ARGUMENT_BUDGET
        })
        .count();
    within.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_batch_and_in_its_place() {
        let items: Vec<String> = (0..10_000).map(|n| format!("/nix/store/{n:060}")).collect();
        let runs = batches(&items, String::as_str);
        assert!(runs.len() > 1);
        assert_eq!(runs.concat(), items);
        for run in runs {
            let bytes: usize = run.iter().map(|item| item.len() + ARGUMENT_OVERHEAD).sum();
            assert!(bytes <= ARGUMENT_BUDGET, "{bytes}");
        }
    }

    #[test]
    fn an_item_over_the_budget_goes_alone() {
        let huge = "x".repeat(ARGUMENT_BUDGET + 1);
        let items = ["a", huge.as_str(), "b"];
        assert_eq!(batches(&items, |item| item), [&["a"][..], &[huge.as_str()], &["b"]]);
    }

    #[test]
    fn of_nothing_there_are_no_batches() {
        assert!(batches::<&str>(&[], |item| item).is_empty());
    }
}
