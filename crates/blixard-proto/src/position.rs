//! Where in a flake an evaluation failed, carried beside a gRPC status.

use blixard_core::ports::nix::SourcePosition;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// The metadata key; `-bin` because a file may have any name. The value is `line:column:file`.
const KEY: &str = "blixard-position-bin";

/// Adds a position to a status.
#[must_use]
pub fn with_position(mut status: Status, position: &SourcePosition) -> Status {
    let SourcePosition { file, line, column } = position;
    let text = format!("{line}:{column}:{file}");
    status.metadata_mut().insert_bin(KEY, MetadataValue::from_bytes(text.as_bytes()));
    status
}

/// The position of a status, if it has one.
#[must_use]
pub fn position_of(status: &Status) -> Option<SourcePosition> {
    let bytes = status.metadata().get_bin(KEY)?.to_bytes().ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let mut parts = text.splitn(3, ':');
    let (line, column) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(SourcePosition { file: parts.next()?.to_owned(), line, column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_and_is_absent_where_none_was_given() {
        let status = Status::invalid_argument("no");
        assert_eq!(position_of(&status), None);
        let position = SourcePosition { file: "a:b/ü.nix".to_owned(), line: 3, column: 7 };
        assert_eq!(position_of(&with_position(status, &position)), Some(position));
    }
}
