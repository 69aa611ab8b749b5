//! Turns what Nix said into why the evaluation failed.
//!
//! Owns: which of several errors and positions is told. Refuses to know: processes.

use blixard_core::ports::nix::{EvaluateError, LockedSource, SourcePosition};

use crate::internal_json::{Fault, Interpreter};

/// Stands where Nix gave no words.
pub(super) const NOTHING_SAID: &str = "it gave no reason";

/// A vm that cannot be evaluated, or the flake itself, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    attribute: Option<String>,
    message: String,
    position: Option<SourcePosition>,
}

impl Culprit {
    /// `None` if Nix reported no error.
    pub(super) fn new(attribute: Option<String>, said: &Interpreter, source: &LockedSource) -> Option<Self> {
        let fault = said.faults().last()?;
        Some(Self { attribute, message: fault.message.clone(), position: position_in(fault, source) })
    }

    pub(super) fn unexplained(attribute: String) -> Self {
        Self { attribute: Some(attribute), message: NOTHING_SAID.to_owned(), position: None }
    }

    fn words(&self) -> String {
        match &self.attribute {
            Some(attribute) => format!("{attribute}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// The error that tells of all of them, one a line, with the first one's position.
pub(super) fn failed(culprits: Vec<Culprit>, said: &Interpreter) -> EvaluateError {
    let words: Vec<String> = culprits.iter().map(Culprit::words).collect();
    let message = if words.is_empty() { said.last_words() } else { words.join("\n") };
    EvaluateError::Failed {
        message: if message.is_empty() { NOTHING_SAID.to_owned() } else { message },
        position: culprits.into_iter().next().and_then(|culprit| culprit.position),
    }
}

/// The innermost position in the user's tree, or else the innermost of all: an error within nixpkgs is
/// caused by what its caller gave it.
fn position_in(fault: &Fault, source: &LockedSource) -> Option<SourcePosition> {
    let folder = format!("{}/", source.path);
    let own = fault.positions.iter().rev().find_map(|position| {
        let file = position.file.strip_prefix(&folder)?.to_owned();
        Some(SourcePosition { file, ..position.clone() })
    });
    own.or_else(|| fault.positions.last().cloned())
}
