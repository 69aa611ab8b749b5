//! What people and scripts read.
//!
//! Owns: the two formats, the words for each state, and keeping text of others to its place. Refuses to
//! know: where the data comes from.

pub(crate) mod cluster;
pub(crate) mod explain;
mod facts;
pub(crate) mod json;
pub(crate) mod node;
pub(crate) mod placement;
pub(crate) mod table;
pub(crate) mod text;
mod time;
pub(crate) mod volume;
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
    lines(text)
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Most characters of a text of others in a table.
const CELL_MAX: usize = 200;

/// As much of a text of others as a table has room for.
pub(crate) fn cell(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// A text of others that may have more lines than one: those below the first are set in.
pub(crate) fn set_in(text: &str, by: usize) -> String {
    let below = lines(text).skip(1).map(|line| format!("\n{:by$}{}", "", line.trim_end()));
    let first = text.lines().next().map(one_line).unwrap_or_default();
    first + &below.collect::<String>()
}

/// The lines of a text of others, without what steers the terminal: colours, and all other controls.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(plain)
}

fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            // A control sequence (ECMA-48 §5.4) ends with its first character from `@` to `~`.
            '\u{1b}' if chars.as_str().starts_with('[') => {
                chars.next();
                chars.by_ref().find(|char| ('@'..='~').contains(char));
            }
            '\t' => plain.push(' '),
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stays_in_its_line() {
        assert_eq!(one_line("no room:\n  node a\r\n\n\tis full\n"), "no room: node a is full");
    }

    #[test]
    fn what_stands_below_the_first_line_is_set_in() {
        let text = "it ended; its console said last:\n  \u{1b}[1mpanic\u{1b}[0m\r\nno init found";
        assert_eq!(set_in(text, 2), "it ended; its console said last:\n    panic\n  no init found");
        assert_eq!(cell(text), "it ended; its console said last: panic no init found");
        assert_eq!(cell(&"é".repeat(300)), "é".repeat(200) + "…");
        assert_eq!(set_in("", 2), "");
    }

    #[test]
    fn what_steers_the_terminal_is_left_out() {
        let text = "\u{1b}[31;1merror:\u{1b}[0m é\u{7}\tx\u{9b}2J\u{1b}]0;title\u{7}\u{1b}[";
        assert_eq!(plain(text), "error: é x2J]0;title");
    }
}
