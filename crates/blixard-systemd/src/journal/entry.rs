//! One entry of `journalctl --output=json` as a line of a console.
//!
//! Owns: the JSON form described in <https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format>.
//! Pure. Refuses to know: where entries come from.

use blixard_core::ports::UnixMillis;
use blixard_core::ports::journal::LogLine;
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    microseconds: String,
    #[serde(rename = "MESSAGE")]
    message: Message,
}

/// A field's value.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    /// Not UTF-8, or with control characters.
    Bytes(Vec<u8>),
    /// Too large to be shown.
    Withheld(()),
}

/// The line in an entry; `None` if it is none.
pub(super) fn parse(entry: &[u8]) -> Option<LogLine> {
    let entry: Entry = serde_json::from_slice(entry).ok()?;
    let text = match entry.message {
        Message::Text(text) => text,
        Message::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Message::Withheld(()) => String::new(),
    };
    let microseconds: u64 = entry.microseconds.parse().ok()?;
    Some(LogLine {
        at: UnixMillis(microseconds / 1000),
        // A serial console ends its lines with both.
        text: text.trim_end_matches('\r').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str) -> Option<String> {
        let entry =
            format!(r#"{{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000123456","MESSAGE":{message}}}"#);
        parse(entry.as_bytes()).map(|line| line.text)
    }

    #[test]
    fn a_line_has_its_time_in_milliseconds() {
        let line = parse(br#"{"MESSAGE":"up","__REALTIME_TIMESTAMP":"1700000000123456"}"#);
        assert_eq!(line, Some(LogLine { at: UnixMillis(1_700_000_000_123), text: "up".to_owned() }));
    }

    #[test]
    fn a_message_that_is_no_utf8_is_replaced_where_it_is_none() {
        assert_eq!(text("[27,91,49,109,255]").as_deref(), Some("\u{1b}[1m\u{fffd}"));
    }

    #[test]
    fn a_message_that_is_withheld_is_an_empty_line() {
        assert_eq!(text("null").as_deref(), Some(""));
    }

    #[test]
    fn the_carriage_returns_of_a_serial_console_are_cut_off() {
        assert_eq!(text(r#""login: \r\r""#).as_deref(), Some("login: "));
        assert_eq!(text(r#""10%\r20%""#).as_deref(), Some("10%\r20%"));
    }

    #[test]
    fn what_is_no_entry_is_no_line() {
        for entry in ["", "{}", "no json", r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":{}}"#] {
            assert_eq!(parse(entry.as_bytes()), None, "{entry}");
        }
    }
}
