//! `tidy`: the rules of this project that no other tool keeps, each with its reason.
//!
//! Every rule is a pure function of texts; this file reads the tree and prints what they find.

mod changelog;
mod layers;
mod manifest;
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, from the top of the workspace.
    file: String,
    rule: &'static str,
    /// What is wrong, and why it matters.
    reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.file, self.rule, self.reason)
    }
}

/// A text of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Its path from the top of the workspace.
    path: String,
    content: String,
}

/// Checks the workspace in this folder and prints every finding.
pub(crate) fn check_workspace(root: &Path) -> anyhow::Result<()> {
    let texts = read(root)?;
    let findings = check(&texts)?;
    for finding in &findings {
        println!("{finding}");
    }
    anyhow::ensure!(findings.is_empty(), "tidy: {} rules broken", findings.len());
    println!("tidy: {} files", texts.len());
    Ok(())
}

fn check(texts: &[Text]) -> anyhow::Result<Vec<Finding>> {
    let manifests = manifest::parse(texts)?;
    let mut findings: Vec<Finding> = texts.iter().flat_map(source::check).collect();
    findings.extend(manifests.iter().filter_map(manifest::check_lints));
    findings.extend(layers::check(&manifests));
    findings.extend(texts.iter().filter_map(changelog::check));
    findings.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(findings)
}

/// The texts that a rule may look at.
fn read(root: &Path) -> anyhow::Result<Vec<Text>> {
    let mut texts = Vec::new();
    for entry in list(root)? {
        // A workspace of its own, for a nightly compiler: nothing ships from there.
        if entry.file_name().is_some_and(|name| name == "fuzz") {
            continue;
        }
        collect(root, &entry, &mut texts)?;
    }
    texts.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(texts)
}

fn collect(root: &Path, path: &Path, texts: &mut Vec<Text>) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_symlink() || name.starts_with('.') || name == "target" {
        return Ok(());
    }
    if path.is_dir() {
        return list(path)?.iter().try_for_each(|entry| collect(root, entry, texts));
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    if matches!(extension, Some("rs" | "nix")) || matches!(name, "Cargo.toml" | "CHANGELOG.md") {
        let content = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
        texts.push(Text { path, content });
    }
    Ok(())
}

fn list(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.collect::<Result<Vec<_>, _>>()?.iter().map(fs::DirEntry::path).collect())
}
