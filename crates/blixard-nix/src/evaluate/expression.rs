//! Writes the Nix code that is applied to a flake's outputs.
//!
//! Owns: how a name becomes a Nix string. Refuses to know: how the code is run.

use blixard_core::ports::nix::FlakeOutput;

/// What is asked of a flake.
const EVALUATE: &str = include_str!("../evaluate.nix");

/// A vm that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Where; wherever vms are if absent.
    pub(super) output: Option<FlakeOutput>,
    pub(super) name: String,
}

impl Wanted {
    /// As an element of a Nix list.
    pub(super) fn nix(&self) -> String {
        let output = self.output.map_or_else(|| "null".to_owned(), |output| nix_string(output.name()));
        format!("{{ output = {output}; name = {}; }}", nix_string(&self.name))
    }

    /// As a person would write it.
    pub(super) fn attribute(&self) -> String {
        nix_attribute(self.output.unwrap_or(FlakeOutput::Microvms), &self.name)
    }
}

/// The function that describes all (`None`) or these vms.
pub(super) fn describing(wanted: Option<&[Wanted]>) -> String {
    applied(wanted, true)
}

/// The function that tells which vms there are.
pub(super) fn naming() -> String {
    applied(None, false)
}

fn applied(wanted: Option<&[Wanted]>, describe: bool) -> String {
    let ask = match wanted {
        None => "null".to_owned(),
        Some(wanted) => {
            let wanted: Vec<String> = wanted.iter().map(Wanted::nix).collect();
            format!("[ {} ]", wanted.join(" "))
        }
    };
    format!("({EVALUATE}) {{ describe = {describe}; ask = {ask}; }}")
}

/// A text as a Nix string literal. Every `$` is escaped, which is more than needed and never wrong; a
/// bare carriage return would be read as a newline.
pub(super) fn nix_string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '$' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            _ => literal.push(character),
        }
    }
    literal.push('"');
    literal
}

/// `microvms.<name>` as a person would write it.
pub(super) fn nix_attribute(output: FlakeOutput, name: &str) -> String {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-'".contains(&byte);
    let starts = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    if name.bytes().all(is_part) && name.as_bytes().first().is_some_and(starts) {
        format!("{}.{name}", output.name())
    } else {
        format!("{}.{}", output.name(), nix_string(name))
    }
}
