//! Gets facts out of text that was written for people.
//!
//! Owns: removal of terminal control, the form of positions and of store paths in messages. Refuses to
//! know: what kind of message it is.

use std::str::Chars;

use blixard_core::ports::nix::SourcePosition;
use blixard_types::{STORE_DIR, StorePath};

use super::record::Message;

/// The most bytes of one text that are handed on.
const TEXT_MAX: usize = 64 * 1024;

/// The text without escape sequences and control characters other than tab and newline, which a flake
/// could use to write over what a terminal shows. Cut at [`TEXT_MAX`].
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_MAX));
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next == '\u{1b}' {
            skip_escape(&mut rest);
        } else if !next.is_control() || next == '\n' || next == '\t' {
            if out.len() + next.len_utf8() > TEXT_MAX {
                break;
            }
            out.push(next);
        }
    }
    out
}

/// Skips what follows an ESC: ECMA-48 control sequences (`[`), strings (`]`, `P`, `_`, `^`, `X`) up to
/// BEL or ST, or one character.
fn skip_escape(rest: &mut Chars<'_>) {
    match rest.next() {
        Some('[') => {
            rest.find(|character| ('\u{40}'..='\u{7e}').contains(character));
        }
        Some(']' | 'P' | '_' | '^' | 'X') => skip_string(rest),
        _ => (),
    }
}

fn skip_string(rest: &mut Chars<'_>) {
    let end = rest.find(|character| matches!(character, '\u{7}' | '\u{1b}'));
    if end == Some('\u{1b}') {
        // The other half of ST.
        rest.next();
    }
}

/// The positions in a cleaned message, in its order: lines `at <path>:<line>:<column>:`. Only files:
/// Nix calls other sources `«string»` or `«none»`.
pub(super) fn positions(text: &str) -> Vec<SourcePosition> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("at ")?.strip_suffix(':'))
        .filter_map(parse_position)
        .collect()
}

/// The position that a message has in fields of its own.
pub(super) fn position_of(message: &Message) -> Option<SourcePosition> {
    let (file, line, column) = (message.file.as_deref()?, message.line?, message.column?);
    let file = clean(file.strip_suffix(&format!(":{line}:{column}")).unwrap_or(file));
    file.starts_with('/').then_some(SourcePosition { file, line, column })
}

fn parse_position(text: &str) -> Option<SourcePosition> {
    let (head, column) = text.rsplit_once(':')?;
    let (file, line) = head.rsplit_once(':')?;
    file.starts_with('/').then_some(SourcePosition {
        file: file.to_owned(),
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

/// The first derivation that a text names.
pub(super) fn first_derivation(text: &str) -> Option<StorePath> {
    text.match_indices(STORE_DIR)
        .filter_map(|(at, _)| store_path_at(text.get(at..)?))
        .find(StorePath::is_derivation)
}

fn store_path_at(text: &str) -> Option<StorePath> {
    let name = text.get(STORE_DIR.len() + 1..)?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let length = name.bytes().take_while(|byte| is_part(*byte)).count();
    text.get(..STORE_DIR.len() + 1 + length)?.parse().ok()
}
