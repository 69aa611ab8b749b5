//! What the rules need of a crate's `Cargo.toml`.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::{Finding, Text};

/// A crate, by its manifest.
#[derive(Debug, Clone, Default)]
pub(super) struct Manifest {
    pub(super) file: String,
    pub(super) name: String,
    /// What it is built from: dependencies and build-dependencies, of every target.
    pub(super) needs: BTreeSet<String>,
    pub(super) inherits_lints: bool,
}

/// The manifests of the crates among these texts.
pub(super) fn parse(texts: &[Text]) -> anyhow::Result<Vec<Manifest>> {
    let manifests = texts.iter().filter(|text| text.path.ends_with("/Cargo.toml"));
    manifests.map(|text| parse_one(text).with_context(|| format!("{} is no manifest", text.path))).collect()
}

fn parse_one(text: &Text) -> anyhow::Result<Manifest> {
    let table: toml::Table = text.content.parse()?;
    let package = table.get("package").and_then(|package| package.get("name"));
    let name = package.and_then(toml::Value::as_str).context("it names no package")?;
    let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
    let mut needs = needs_of(&table);
    let targets = table.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(|targets| targets.values()) {
        needs.extend(target.as_table().map(needs_of).unwrap_or_default());
    }
    Ok(Manifest {
        file: text.path.clone(),
        name: name.to_owned(),
        needs,
        inherits_lints: lints.and_then(toml::Value::as_bool) == Some(true),
    })
}

fn needs_of(table: &toml::Table) -> BTreeSet<String> {
    let sections =
        ["dependencies", "build-dependencies"].iter().filter_map(|section| table.get(*section)?.as_table());
    let renamed = |value: &toml::Value| value.get("package").and_then(toml::Value::as_str).map(str::to_owned);
    sections.flatten().map(|(name, value)| renamed(value).unwrap_or_else(|| name.clone())).collect()
}

/// Checks that the crate has the workspace's lints.
pub(super) fn check_lints(manifest: &Manifest) -> Option<Finding> {
    (!manifest.inherits_lints).then(|| Finding {
        file: manifest.file.clone(),
        rule: "lints",
        reason: "no `[lints] workspace = true`; the crate would escape the lints of the workspace".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(rest: &str) -> Manifest {
        let content = format!("[package]\nname = \"a\"\n{rest}");
        parse(&[Text { path: "crates/a/Cargo.toml".to_owned(), content }]).unwrap().remove(0)
    }

    #[test]
    fn a_crate_needs_its_dependencies_of_every_kind_but_those_of_its_tests() {
        let manifest = manifest(
            "[dependencies]\nb = \"1\"\nc.workspace = true\nalias = { package = \"d\" }\n[build-dependencies]\ne = \"1\"\n\
             [target.'cfg(unix)'.dependencies]\nf = \"1\"\n[dev-dependencies]\ng = \"1\"\n",
        );
        assert_eq!(manifest.needs.iter().collect::<Vec<_>>(), ["b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_crate_without_the_workspace_lints_is_found() {
        assert!(check_lints(&manifest("[lints]\nworkspace = true\n")).is_none());
        assert!(check_lints(&manifest("[lints]\nworkspace = false\n")).is_some());
        assert!(check_lints(&manifest("")).is_some());
    }

    #[test]
    fn the_workspace_itself_is_no_crate() {
        let text = Text { path: "Cargo.toml".to_owned(), content: "[workspace]\n".to_owned() };
        assert!(parse(&[text]).unwrap().is_empty());
    }
}
