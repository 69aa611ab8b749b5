//! What a person can do about an error, carried beside a gRPC status.

use tonic::Status;
use tonic::metadata::MetadataValue;

/// The metadata key; `-bin` because a hint may hold any text.
const KEY: &str = "blixard-hint-bin";

/// Adds a hint to a status.
#[must_use]
pub fn with_hint(mut status: Status, hint: &str) -> Status {
    status.metadata_mut().insert_bin(KEY, MetadataValue::from_bytes(hint.as_bytes()));
    status
}

/// The hint of a status, if it has one.
#[must_use]
pub fn hint_of(status: &Status) -> Option<String> {
    let bytes = status.metadata().get_bin(KEY)?.to_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_comes_back_and_is_absent_where_none_was_given() {
        let status = Status::not_found("no vm");
        assert_eq!(hint_of(&status), None);
        assert_eq!(hint_of(&with_hint(status, "try `vm list` – ü")).as_deref(), Some("try `vm list` – ü"));
    }
}
