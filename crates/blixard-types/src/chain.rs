//! An error as one line of text.

use std::error::Error;
use std::fmt::Write as _;

/// An error and its causes, outermost first, parted by colons: for logs and for answers to other nodes.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A string takes whatever it is given.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the manifest")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn every_cause_is_told_after_what_it_caused() {
        let text = chain(&Outer(std::fmt::Error));
        assert_eq!(text, format!("cannot read the manifest: {}", std::fmt::Error));
    }
}
