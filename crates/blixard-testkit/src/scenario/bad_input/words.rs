//! What is typed wrongly.

use super::{Expected, refused};
use crate::host::Host;

/// The command line cannot be understood.
const USAGE: i32 = 2;
/// No such vm or node.
const NOT_FOUND: i32 = 5;
/// The flake could not be locked, evaluated or built.
const FLAKE: i32 = 7;

/// What stands for 300 characters.
const LONG: &str = "{long}";

const fn expected(code: i32, says: &'static [&'static str], hint: &'static str) -> Expected<'static> {
    Expected { code, says, hint }
}

const NAMES_RULE: &[&str] = &["must be lower-case letters, digits and `-`"];
const NO_FLAKE_HINT: &str = "is there a flake.nix?";

const CASES: &[(&[&str], Expected<'static>)] = &[
    (&["deploy", "/root/nowhere"], expected(FLAKE, &["/root/nowhere"], NO_FLAKE_HINT)),
    (&["deploy", "/root"], expected(FLAKE, &["flake.nix"], NO_FLAKE_HINT)),
    (
        &["deploy", "/root/fixtures/sleepers#nobody"],
        expected(FLAKE, &["no output `microvms.nobody`"], "nix flake show"),
    ),
    (
        &["deploy", "nonsense:reference"],
        expected(FLAKE, &["nonsense:reference"], "what Nix takes for a flake"),
    ),
    (&["deploy", "."], expected(FLAKE, &["flake.nix"], NO_FLAKE_HINT)),
    (&["deploy", ".#Bad"], expected(USAGE, NAMES_RULE, "")),
    (&["deploy", "--nonsense"], expected(USAGE, &["--nonsense"], "")),
    (&["vm", "show", "nobody"], expected(NOT_FOUND, &["default/nobody"], "blixard vm list")),
    (&["vm", "start", "nobody"], expected(NOT_FOUND, &["default/nobody"], "blixard vm list")),
    (&["vm", "stop", "shop/nobody"], expected(NOT_FOUND, &["shop/nobody"], "blixard vm list")),
    (&["vm", "delete", "nobody"], expected(NOT_FOUND, &["default/nobody"], "blixard vm list")),
    (&["vm", "logs", "nobody"], expected(NOT_FOUND, &["default/nobody"], "blixard vm list")),
    (&["vm", "show", "a/b/c"], expected(USAGE, &["expected `name` or `tenant/name`"], "")),
    (&["vm", "show", ".."], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "../etc"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "a%n"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "$HOME"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "a b"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "a\nb"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "ü"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "--", "-a"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "show", "-a"], expected(USAGE, &["unexpected argument '-a'"], "")),
    (&["vm", "show", ""], expected(USAGE, &["the vm name is empty"], "")),
    (&["vm", "show", LONG], expected(USAGE, &["has 300 bytes, at most 63 are allowed"], "")),
    (&["vm", "list", "--tenant", "../x"], expected(USAGE, NAMES_RULE, "")),
    (&["vm", "list", "--tenant", LONG], expected(USAGE, &["has 300 bytes, at most 63 are allowed"], "")),
    (&["vm", "logs", "-n", "-1", "sleeper-1"], expected(USAGE, &["-1"], "")),
    (
        &["vm", "logs", "-n", "99999999999999999999", "sleeper-1"],
        expected(USAGE, &["99999999999999999999"], ""),
    ),
    (&["vm", "list", "-o", "xml"], expected(USAGE, &["xml"], "")),
];

/// Tries every command line.
pub(super) fn each(host: &Host, case: &mut dyn FnMut(&str, anyhow::Result<()>)) {
    let long = "x".repeat(300);
    for (words, expected) in CASES {
        let words: Vec<&str> = words.iter().map(|word| if *word == LONG { &long } else { *word }).collect();
        case(&format!("blixard {}", words.join(" ")), refused(host, &words, expected));
    }
}
