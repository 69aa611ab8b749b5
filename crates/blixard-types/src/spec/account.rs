//! The account that a hypervisor runs under.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A user and a group of the host, by name. Both must be there: a vm whose account is missing fails to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The user.
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,30}$"))]
    pub user: String,
    /// Its group.
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,30}$"))]
    pub group: String,
}

/// The number that a name has in `/etc/passwd` or `/etc/group`: `name:x:number:…`.
#[must_use]
pub fn number_in(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

impl Account {
    /// Whether a text is the name of an account: what useradd makes, and no number, specifier or option.
    pub(super) fn is_name(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        text.len() <= 31
            && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && text.bytes().all(plain)
    }
}
