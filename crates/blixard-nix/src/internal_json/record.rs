//! The shape of the lines.
//!
//! Owns: names and types of the fields that are read. Refuses to know: what the codes mean.

use serde::Deserialize;
use serde_json::Value;

/// One line, without its prefix `@nix `.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub(super) enum Record {
    /// An activity begins.
    Start {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<Value>,
    },
    /// An activity ends.
    Stop { id: u64 },
    /// Something of an activity.
    Result {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<Value>,
    },
    /// Words for the user.
    Msg(Message),
    /// What a later Nix may add.
    #[serde(other)]
    Other,
}

/// Words for the user. Only errors and warnings with a position have `raw_msg`.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) level: u64,
    pub(super) msg: String,
    #[serde(default)]
    pub(super) raw_msg: Option<String>,
    /// Nix 2.26 appends `:line:column`.
    #[serde(default)]
    pub(super) file: Option<String>,
    #[serde(default)]
    pub(super) line: Option<u64>,
    #[serde(default)]
    pub(super) column: Option<u64>,
}
