//! Writes the flake reference of a locked source.
//!
//! Owns: the one form in which anything is evaluated, so that the same source gives the same result on
//! every node. Refuses to know: what is evaluated of it.

use std::fmt::Write as _;

use blixard_core::ports::nix::LockedSource;

/// `path:/nix/store/…?…narHash=…`, without a fragment. With the NAR hash the evaluation is pure; the
/// facts of the git tree are given because Nix cannot find them in the store.
pub(crate) fn flake_reference(source: &LockedSource) -> String {
    let mut reference = String::from("path:");
    encode(&mut reference, source.path.as_str(), b"/");
    reference.push_str("?narHash=");
    encode(&mut reference, &source.nar_hash.to_string(), b"");
    if let Some(rev) = &source.rev {
        reference.push_str("&rev=");
        encode(&mut reference, rev, b"");
    }
    for (key, number) in [("revCount", source.rev_count), ("lastModified", source.last_modified)] {
        if let Some(number) = number {
            // Writing to a String cannot fail.
            let _ = write!(reference, "&{key}={number}");
        }
    }
    if !source.subdir.is_empty() {
        reference.push_str("&dir=");
        encode(&mut reference, &source.subdir, b"/");
    }
    reference
}

/// The lock file to be read, if not the one in the tree.
pub(crate) fn lock_arguments(source: &LockedSource) -> Vec<&str> {
    source.lock.iter().flat_map(|lock| ["--reference-lock-file", lock.as_str()]).collect()
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and `allowed`.
fn encode(out: &mut String, text: &str, allowed: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || allowed.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> LockedSource {
        LockedSource {
            path: format!("/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-{name}").parse().unwrap(),
            nar_hash: "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse().unwrap(),
            rev: None,
            rev_count: None,
            last_modified: None,
            subdir: String::new(),
            lock: None,
        }
    }

    #[test]
    fn a_source_without_git_has_only_its_hash() {
        insta::assert_snapshot!(flake_reference(&source("source")), @"path:/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source?narHash=sha256-47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D");
    }

    #[test]
    fn the_facts_of_git_and_the_folder_are_given() {
        let full = LockedSource {
            rev: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            rev_count: Some(12),
            last_modified: Some(1_700_000_000),
            subdir: "deploy/my flake".to_owned(),
            ..source("source")
        };
        insta::assert_snapshot!(flake_reference(&full), @"path:/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source?narHash=sha256-47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D&rev=0123456789abcdef0123456789abcdef01234567&revCount=12&lastModified=1700000000&dir=deploy/my%20flake");
    }

    #[test]
    fn nothing_in_a_field_becomes_a_parameter_or_a_fragment() {
        let hostile = LockedSource {
            rev: Some("0&narHash=x#y".to_owned()),
            subdir: "a?b&c=d#e%".to_owned(),
            ..source("so?ur=ce+x")
        };
        let reference = flake_reference(&hostile);
        assert_eq!(reference.matches('?').count(), 1, "{reference}");
        assert_eq!(reference.matches('&').count(), 2, "{reference}");
        assert!(!reference.contains('#'), "{reference}");
    }
}
