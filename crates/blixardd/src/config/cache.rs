//! `[cache]`: the binary cache for stock Nix.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// `[cache]`: the binary cache for stock Nix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cache {
    /// Where it listens; off if absent.
    #[serde(deserialize_with = "address")]
    pub(crate) listen: Option<SocketAddr>,
    /// The name of its key; `blixard-<node>` if absent.
    pub(crate) key_name: Option<String>,
    /// A file with the token that callers must show.
    pub(crate) token_file: Option<PathBuf>,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    let wrong =
        |_| serde::de::Error::custom(format!("{text:?} is no address with a port, as 0.0.0.0:5000 is"));
    text.parse().map(Some).map_err(wrong)
}

impl Cache {
    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let bad =
            |name: &&String| name.is_empty() || name.contains(':') || name.chars().any(char::is_whitespace);
        if let Some(name) = self.key_name.as_ref().filter(bad) {
            return Some(("cache.key_name", format!("{name:?} must have no colon and no space")));
        }
        let relative = self.token_file.as_ref().filter(|file| !file.is_absolute());
        relative.map(|file| ("cache.token_file", format!("{} is not an absolute path", file.display())))
    }
}
