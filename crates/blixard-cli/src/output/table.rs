//! Aligned columns.

use std::io::{self, Write};

/// Blanks between columns.
const GAP: usize = 3;

/// Rows of equal length, the heading first.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// Writes all rows; nothing is padded at the end of a line.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                let blanks = width.saturating_sub(cell.chars().count()) + GAP;
                line.extend(std::iter::repeat_n(' ', blanks));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "NODE", "REASON"]);
        table.row(["default/hello", "ä", ""].map(str::to_owned));
        table.row(["a", "-", "waits for room"].map(str::to_owned));
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @"
        NAME            NODE   REASON
        default/hello   ä
        a               -      waits for room
        ");
    }
}
