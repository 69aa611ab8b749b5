//! The rule of the changelog: there is always a place for the next change.

use super::{Finding, Text};

/// Checks `CHANGELOG.md`.
pub(super) fn check(text: &Text) -> Option<Finding> {
    let broken = text.path == "CHANGELOG.md" && !text.content.lines().any(|line| line == "## Unreleased");
    broken.then(|| Finding {
        file: text.path.clone(),
        rule: "changelog",
        reason: "no `## Unreleased` heading; a change would have no place to be written down".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_has_a_place_for_the_next_change() {
        let broken = |path: &str, content: &str| {
            check(&Text { path: path.to_owned(), content: content.to_owned() }).is_some()
        };
        assert!(broken("CHANGELOG.md", "# Changelog\n\n## 0.1.0\n"));
        assert!(!broken("CHANGELOG.md", "# Changelog\n\n## Unreleased\n"));
        assert!(!broken("README.md", ""));
    }
}
