//! Writes the Nix code that is applied to `microvms`.
//!
//! Owns: how a name becomes a Nix string. Refuses to know: how the code is run.

/// What is asked of each vm.
const EVALUATE: &str = include_str!("../evaluate.nix");

/// Lists the vms.
pub(super) const ATTRIBUTE_NAMES: &str = "builtins.attrNames";

/// The function that describes all (`None`) or these vms.
pub(super) fn apply_for(names: Option<&[String]>) -> String {
    let names = match names {
        None => "null".to_owned(),
        Some(names) => {
            let strings: Vec<String> = names.iter().map(|name| nix_string(name)).collect();
            format!("[ {} ]", strings.join(" "))
        }
    };
    format!("({EVALUATE}) {{ names = {names}; }}")
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
pub(super) fn nix_attribute(name: &str) -> String {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-'".contains(&byte);
    let starts = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    if name.bytes().all(is_part) && name.as_bytes().first().is_some_and(starts) {
        format!("microvms.{name}")
    } else {
        format!("microvms.{}", nix_string(name))
    }
}
