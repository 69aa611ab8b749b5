//! What is said beside the result: lines that stay and, on a terminal, one at the foot that is replaced
//! as things go on.
//!
//! Owns: keeping the two apart. Refuses to know: what is said. That nobody reads it is no reason to fail.

use std::fmt::Display;
use std::io::Write;

/// Returns to the beginning of the line and clears it (ECMA-48: CR, EL).
const CLEAR: &str = "\r\u{1b}[K";

/// How many columns a terminal has now.
pub(crate) type Columns = fn() -> usize;

/// The notes of one command.
pub(super) struct Notes<'a> {
    to: &'a mut dyn Write,
    /// Absent where nobody watches.
    terminal: Option<Columns>,
    foot: String,
}

impl<'a> Notes<'a> {
    pub(super) fn new(to: &'a mut dyn Write, terminal: Option<Columns>) -> Self {
        Self { to, terminal, foot: String::new() }
    }

    /// Whether there is a foot: otherwise what would stand there is worth a line.
    pub(super) const fn is_watched(&self) -> bool {
        self.terminal.is_some()
    }

    /// A line that stays.
    pub(super) fn line(&mut self, line: impl Display) {
        if self.foot.is_empty() {
            let _ = writeln!(self.to, "{line}");
        } else {
            let _ = write!(self.to, "{CLEAR}{line}\n{}", self.foot);
            let _ = self.to.flush();
        }
    }

    /// What goes on now, cut to the terminal's width; nothing if empty.
    pub(super) fn foot(&mut self, text: &str) {
        let Some(columns) = self.terminal else { return };
        // In the last column some terminals begin a new line.
        let foot: String = text.chars().take(columns().saturating_sub(1)).collect();
        if foot != self.foot {
            let _ = write!(self.to, "{CLEAR}{foot}");
            let _ = self.to.flush();
            self.foot = foot;
        }
    }
}

/// Whatever comes next begins on an empty line.
impl Drop for Notes<'_> {
    fn drop(&mut self) {
        self.foot("");
    }
}

/// A bar for so much of so much.
pub(super) fn bar(done: u64, expected: u64) -> String {
    const WIDTH: u64 = 20;
    let full = done.min(expected).saturating_mul(WIDTH).checked_div(expected).unwrap_or_default();
    (0..WIDTH).map(|at| if at < full { '#' } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(say: impl FnOnce(&mut Notes<'_>), columns: Columns) -> String {
        let mut text = Vec::new();
        say(&mut Notes::new(&mut text, Some(columns)));
        String::from_utf8(text).unwrap().replace(CLEAR, "<")
    }

    #[test]
    fn a_line_goes_above_the_foot_and_the_foot_is_gone_at_the_end() {
        let text = watched(
            |notes| {
                notes.line("one");
                notes.foot("going");
                notes.foot("going");
                notes.line("two");
                notes.foot("gone");
            },
            || 80,
        );
        assert_eq!(text, "one\n<going<two\ngoing<gone<");
    }

    #[test]
    fn the_foot_never_reaches_the_last_column() {
        assert_eq!(watched(|notes| notes.foot("größer als"), || 5), "<größ<");
        assert_eq!(watched(|notes| notes.foot("any"), || 0), "");
    }

    #[test]
    fn nobody_watching_sees_no_foot() {
        let mut text = Vec::new();
        let mut notes = Notes::new(&mut text, None);
        notes.foot("going");
        notes.line("one");
        drop(notes);
        assert_eq!(text, b"one\n");
    }

    #[test]
    fn a_bar_is_never_longer_than_its_room() {
        assert_eq!(bar(0, 0), "-".repeat(20));
        assert_eq!(bar(1, 2), format!("{}{}", "#".repeat(10), "-".repeat(10)));
        assert_eq!(bar(u64::MAX, 3), "#".repeat(20));
        assert_eq!(bar(u64::MAX / 2, u64::MAX), format!("#{}", "-".repeat(19)));
    }
}
