//! Parses what `nix-store --dump-db` prints.
//!
//! Owns: that format, strictly: for each path, a line each for the path, the NAR hash in base 16, the
//! NAR size, the deriver (may be empty), the number of references, and each reference. Refuses to know:
//! what the paths are. Source: `ValidPathInfo` in Nix's `registerValidity`, unchanged since 2006.

use std::collections::BTreeSet;
use std::str::Lines;

use blixard_types::{PathRecord, Sha256Hash, StorePath};

/// Digits of a SHA-256 in base 16.
const HASH_DIGITS: usize = 64;

/// A text that is not in that format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record}: {problem}")]
pub(crate) struct DumpError {
    record: usize,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("it ends before the {0}")]
    Ends(&'static str),
    #[error("{found:?} is not a {wanted}")]
    Wrong { wanted: &'static str, found: String },
    #[error("{0} is listed twice among the references")]
    Twice(StorePath),
}

/// The records, in their order.
pub(crate) fn parse(text: &str) -> Result<Vec<PathRecord>, DumpError> {
    let mut records = Vec::new();
    let mut lines = text.lines();
    while let Some(first) = lines.next() {
        let record = parse_record(first, &mut lines)
            .map_err(|problem| DumpError { record: records.len() + 1, problem })?;
        records.push(record);
    }
    Ok(records)
}

fn parse_record(first: &str, lines: &mut Lines<'_>) -> Result<PathRecord, Problem> {
    let path = store_path(first)?;
    let nar_hash = hash(line(lines, "hash")?)?;
    let nar_size = number(line(lines, "size")?)?;
    let deriver = line(lines, "deriver")?;
    if !deriver.is_empty() {
        store_path(deriver)?;
    }
    let count = number(line(lines, "number of references")?)?;
    let mut references = BTreeSet::new();
    for _ in 0..count {
        let reference = store_path(line(lines, "references")?)?;
        if let Some(twice) = references.replace(reference) {
            return Err(Problem::Twice(twice));
        }
    }
    Ok(PathRecord { path, nar_hash, nar_size, references })
}

fn line<'a>(lines: &mut Lines<'a>, what: &'static str) -> Result<&'a str, Problem> {
    lines.next().ok_or(Problem::Ends(what))
}

fn wrong(wanted: &'static str, found: &str) -> Problem {
    Problem::Wrong { wanted, found: found.to_owned() }
}

fn store_path(text: &str) -> Result<StorePath, Problem> {
    text.parse().map_err(|_| wrong("store path", text))
}

fn hash(text: &str) -> Result<Sha256Hash, Problem> {
    if text.len() != HASH_DIGITS {
        return Err(wrong("SHA-256 in base 16", text));
    }
    format!("sha256:{text}").parse().map_err(|_| wrong("SHA-256 in base 16", text))
}

fn number(text: &str) -> Result<u64, Problem> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("number", text));
    }
    text.parse().map_err(|_| wrong("number", text))
}

#[cfg(test)]
mod tests;
