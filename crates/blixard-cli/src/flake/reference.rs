//! What people type for a flake: `REF`, `REF#NAME`, `REF#microvms.NAME`, `REF#nixosConfigurations.NAME`.
//!
//! Owns: splitting at the `#` and what may follow it. Refuses to know: what a `REF` may be; that is
//! Nix's.

use std::str::FromStr;

use blixard_types::{NameError, VmName};

/// A flake and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlakeReference {
    /// The reference without its fragment, as Nix takes it.
    pub(crate) flake: String,
    /// Which of its microVMs.
    pub(crate) selection: Selection,
}

/// Which microVMs of a flake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All that it defines.
    All,
    /// The one of this name.
    One(VmName),
    /// `nixosConfigurations.NAME`, a guest of microvm.nix.
    Configuration(VmName),
}

/// A text that names no microVM of a flake.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error(
        "`#{0}` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them"
    )]
    Fragment(String),
    #[error("{0}")]
    Name(NameError),
}

impl FromStr for FlakeReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (flake, fragment) = text.split_once('#').unwrap_or((text, ""));
        // As Nix has it: `#hello` is `.#hello`.
        let flake = if flake.is_empty() { "." } else { flake };
        Ok(Self { flake: flake.to_owned(), selection: selection(fragment)? })
    }
}

fn selection(fragment: &str) -> Result<Selection, ReferenceError> {
    let (name, selected): (_, fn(VmName) -> Selection) = match fragment.split_once('.') {
        None if matches!(fragment, "" | "microvms") => return Ok(Selection::All),
        None => (fragment, Selection::One),
        Some(("microvms", name)) => (name, Selection::One),
        Some(("nixosConfigurations", name)) => (name, Selection::Configuration),
        Some(_) => return Err(ReferenceError::Fragment(fragment.to_owned())),
    };
    if name.contains(['.', '"', '^', '#']) {
        return Err(ReferenceError::Fragment(fragment.to_owned()));
    }
    name.parse().map(selected).map_err(ReferenceError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, flake: &str, one: Option<&str>) {
        let selection = one.map_or(Selection::All, |name| Selection::One(name.parse().unwrap()));
        assert_eq!(text.parse(), Ok(FlakeReference { flake: flake.to_owned(), selection }), "{text}");
    }

    #[test]
    fn a_fragment_names_one_microvm_and_no_fragment_all() {
        check(".", ".", None);
        check("", ".", None);
        check("#", ".", None);
        check(".#", ".", None);
        check(".#microvms", ".", None);
        check("#hello", ".", Some("hello"));
        check(".#hello", ".", Some("hello"));
        check(".#microvms.hello", ".", Some("hello"));
        check(".?dir=vms#hello", ".?dir=vms", Some("hello"));
        check("github:owner/infra/main#web-1", "github:owner/infra/main", Some("web-1"));
    }

    #[test]
    fn a_configuration_is_named_by_its_whole_path() {
        let reference: FlakeReference = ".#nixosConfigurations.web".parse().unwrap();
        assert_eq!(reference.selection, Selection::Configuration("web".parse().unwrap()));
    }

    #[test]
    fn another_fragment_is_refused_with_what_is_allowed() {
        let refused = |text: &str| text.parse::<FlakeReference>().unwrap_err().to_string();
        insta::assert_snapshot!(refused(".#packages.x"), @"`#packages.x` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them");
        insta::assert_snapshot!(refused(".#microvms.a.b"), @"`#microvms.a.b` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them");
        insta::assert_snapshot!(refused(".#microvms.\"a\""), @r#"`#microvms."a"` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them"#);
        insta::assert_snapshot!(refused(".#microvms."), @"the vm name is empty");
        insta::assert_snapshot!(refused(".#nixosConfigurations."), @"the vm name is empty");
        insta::assert_snapshot!(refused(".#Web"), @r#"the vm name "Web" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit"#);
        insta::assert_snapshot!(refused(".#a#b"), @"`#a#b` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them");
    }
}
