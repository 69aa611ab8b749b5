//! Cuts a stream of bytes into lines of bounded length.
//!
//! Owns: the bound and the unfinished line. Refuses to know: where the bytes come from.

/// The longest line that is kept whole. An evaluation error of NixOS modules with its full trace has
/// some hundred kilobytes; what is longer is cut.
pub(crate) const LINE_MAX: usize = 1024 * 1024;

/// A line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The first [`LINE_MAX`] bytes of a longer one.
    Cut(&'a [u8]),
}

/// Holds the part of a line that has come so far.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    kept: Vec<u8>,
    cut: bool,
}

impl LineSplitter {
    /// Takes bytes, and hands on the lines that they end.
    pub(crate) fn push(&mut self, bytes: &[u8], on_line: &mut impl FnMut(Line<'_>)) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.keep(part);
            if parts.peek().is_some() {
                self.end_line(on_line);
            }
        }
    }

    /// Hands on a last line that has no end.
    pub(crate) fn finish(&mut self, on_line: &mut impl FnMut(Line<'_>)) {
        if !self.kept.is_empty() {
            self.end_line(on_line);
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_MAX - self.kept.len();
        let fits = part.get(..room.min(part.len())).unwrap_or_default();
        self.kept.extend_from_slice(fits);
        self.cut |= fits.len() < part.len();
    }

    fn end_line(&mut self, on_line: &mut impl FnMut(Line<'_>)) {
        if self.cut {
            on_line(Line::Cut(&self.kept));
        } else {
            on_line(Line::Whole(&self.kept));
        }
        self.kept.clear();
        self.cut = false;
    }
}
