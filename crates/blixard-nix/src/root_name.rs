//! Checks the names of roots.
//!
//! Owns: which names are paths below our folder, and nothing else. Refuses to know: the file system.

use std::io;

use blixard_core::ports::nix::RootName;

/// The longest name of a file in Linux.
const COMPONENT_MAX: usize = 255;

/// Folders within folders; more are a mistake.
pub(crate) const DEPTH_MAX: usize = 8;

/// A root's file: the folders that lead to it, and its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootFile {
    pub(crate) folders: Vec<String>,
    pub(crate) file: String,
}

impl RootFile {
    pub(crate) fn parse(name: &RootName) -> io::Result<Self> {
        let mut folders: Vec<String> = name.0.split('/').map(str::to_owned).collect();
        let safe = folders.len() <= DEPTH_MAX && folders.iter().all(|part| is_component(part));
        match folders.pop() {
            Some(file) if safe => Ok(Self { folders, file }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{:?} is not the name of a root", name.0),
            )),
        }
    }
}

/// Small letters, digits, `-`, `_`, and `.` but not at the start: those files are being made.
pub(crate) fn is_component(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=COMPONENT_MAX).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_paths() {
        let file = RootFile::parse(&RootName("acme/web/12".to_owned())).unwrap();
        assert_eq!(file.folders, ["acme", "web"]);
        assert_eq!(file.file, "12");
        assert!(RootFile::parse(&RootName("one".to_owned())).is_ok());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(COMPONENT_MAX + 1);
        let deep = ["d"; DEPTH_MAX + 1].join("/");
        for name in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", ".new-a", "a/.b", "A", "a b", "a\0b",
            "ä", "a\n", &long, &deep,
        ] {
            let refused = RootFile::parse(&RootName(name.to_owned())).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
