//! What people and scripts read.
//!
//! Owns: the two formats, the words for each state, and keeping text of others to its place. Refuses to
//! know: where the data comes from.

pub(crate) mod json;
pub(crate) mod table;
pub(crate) mod text;
mod time;
mod words;

pub(crate) use words::{change, desired, node_state, role, stage, vm_status};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: aligned columns; may change between versions.
    Table,
    /// For scripts: one JSON value with stable keys.
    Json,
}

/// A text of others (a reason, a message) that must not break out of its line, nor steer the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |part: &str| part.chars().filter(|char| !char.is_control()).collect::<String>();
    text.split(['\n', '\r', '\t']).map(|part| plain(part.trim())).collect::<Vec<_>>().join(" ")
}

/// A text of others that may have lines, but must not steer the terminal.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| line.chars().filter(|char| !char.is_control() || *char == '\t').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stays_in_its_line_and_steers_nothing() {
        assert_eq!(one_line("no room:\n  node a\r\n\tis full\u{1b}[2J"), "no room: node a  is full[2J");
    }
}
