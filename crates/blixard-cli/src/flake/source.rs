//! What Nix says of a locked flake, and the id that stays the same from commit to commit.
//!
//! Owns: the part of `nix flake metadata --json` that is needed, the id made of it, and which of the inputs
//! only the caller has. Pure. Refuses to know: how Nix is asked.

use std::path::Path;

use blixard_proto::v1::FlakeSource;
use blixard_types::{Sha256Hash, StorePath};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Query keys that change from commit to commit, or that say how to fetch and not what.
const PASSING: [&str; 8] =
    ["rev", "ref", "narHash", "lastModified", "revCount", "dirtyRev", "shallow", "allRefs"];

/// The part of `nix flake metadata --json` that is needed (Nix 2.18 to 2.34).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    original_url: String,
    /// `original_url` with registry names looked up.
    resolved_url: Option<String>,
    /// Where the tree is in the store.
    pub(super) path: String,
    pub(super) locked: Locked,
    /// Its lock file, or what that would be.
    #[serde(default)]
    pub(super) locks: Value,
}

/// A locked input that lies on the caller's machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalInput {
    /// Where it is in a store that has it.
    pub(crate) path: StorePath,
    pub(crate) nar_hash: Sha256Hash,
    /// What `builtins.fetchTree` takes.
    pub(super) tree: Map<String, Value>,
}

/// What the flake was locked to. A tree with uncommitted changes has neither `rev` nor `revCount`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Locked {
    pub(super) nar_hash: Option<String>,
    dir: Option<String>,
    rev: Option<String>,
    rev_count: Option<u64>,
    last_modified: Option<u64>,
}

impl Metadata {
    /// The inputs that a builder elsewhere cannot fetch. Those within the flake's own tree come with it.
    pub(super) fn local_inputs(&self) -> Vec<LocalInput> {
        let mut inputs: Vec<LocalInput> = Vec::new();
        for input in self
            .locks
            .get("nodes")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::values)
            .filter_map(local_input)
        {
            if !inputs.iter().any(|other| other.path == input.path) {
                inputs.push(input);
            }
        }
        inputs
    }

    /// The source as the daemon wants it.
    pub(super) fn into_source(self, nar_hash: Sha256Hash) -> FlakeSource {
        let url = self.resolved_url.unwrap_or(self.original_url);
        FlakeSource {
            id: source_id(&url),
            path: self.path,
            nar_hash: nar_hash.to_string(),
            subdir: self.locked.dir.unwrap_or_default(),
            rev: self.locked.rev,
            rev_count: self.locked.rev_count,
            last_modified: self.locked.last_modified,
            lock: None,
        }
    }
}

fn local_input(node: &Value) -> Option<LocalInput> {
    let mut tree = node.get("locked")?.as_object()?.clone();
    let text = |key: &str| tree.get(key).and_then(Value::as_str);
    let local = match text("type")? {
        "path" => Path::new(text("path")?).is_absolute() && node.get("parent").is_none(),
        _ => text("url")?.starts_with("file:"),
    };
    let nar_hash: Sha256Hash = text("narHash")?.parse().ok()?;
    let path = StorePath::of_source(nar_hash).ok()?;
    // Where the flake is in the tree is no matter of the tree; nor is Nix's own mark.
    tree.retain(|key, _| key != "dir" && !key.starts_with("__"));
    local.then_some(LocalInput { path, nar_hash, tree })
}

/// The stable id of a flake: its URL without what changes from commit to commit, without secrets, and
/// in one form where Nix has several.
pub(super) fn source_id(url: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = place.split_once(':').unwrap_or(("", place));
    let rest = match scheme {
        // owner/repo/branch-or-revision
        "github" | "gitlab" | "sourcehut" => rest.split('/').take(2).collect::<Vec<_>>().join("/"),
        _ => without_secret(scheme, rest),
    };
    let rest = match rest.trim_end_matches('/') {
        "" => rest.as_str(),
        trimmed => trimmed,
    };
    let place = match scheme {
        "" => rest.to_owned(),
        // `git+file:/x` is what Nix makes of `git+file:./x`.
        _ if scheme.ends_with("file") && rest.starts_with('/') && !rest.starts_with("//") => {
            format!("{scheme}://{rest}")
        }
        _ => format!("{scheme}:{rest}"),
    };
    let mut kept: Vec<&str> = query.split('&').filter(|pair| lasting(pair)).collect();
    kept.sort_unstable();
    if kept.is_empty() { place } else { format!("{place}?{}", kept.join("&")) }
}

fn lasting(pair: &str) -> bool {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    !value.is_empty() && !PASSING.contains(&key)
}

/// Leaves out a password, and over HTTP the user too: there it is often a token.
fn without_secret(scheme: &str, rest: &str) -> String {
    let Some(authority_on) = rest.strip_prefix("//") else {
        return rest.to_owned();
    };
    let (authority, path) = match authority_on.find('/') {
        Some(at) => authority_on.split_at(at),
        None => (authority_on, ""),
    };
    let Some((user, host)) = authority.rsplit_once('@') else {
        return rest.to_owned();
    };
    if scheme.ends_with("http") || scheme.ends_with("https") {
        return format!("//{host}{path}");
    }
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("//{user}@{host}{path}")
}

#[cfg(test)]
mod tests;
