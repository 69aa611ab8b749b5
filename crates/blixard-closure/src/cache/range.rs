//! Ranges of bytes (RFC 9110, section 14), one at a time.

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What a caller wants of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All: what is asked for in another way than this is not a range, and ignored.
    Whole,
    /// A part that is there.
    Part(Part),
    /// A part that is not.
    Nothing,
}

pub(super) fn parse(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    match (number(first).flatten(), number(last).flatten()) {
        (Some(first), _) if first >= size && is_open_or_number(last) => Wanted::Nothing,
        (Some(first), None) if last.is_empty() => part(first, size - first),
        (Some(first), Some(last)) if first <= last => part(first, last.min(size - 1) - first + 1),
        (None, Some(0)) if first.is_empty() => Wanted::Nothing,
        (None, Some(tail)) if first.is_empty() && size > 0 => part(size - tail.min(size), tail.min(size)),
        _ => Wanted::Whole,
    }
}

fn is_open_or_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn part(from: u64, length: u64) -> Wanted {
    Wanted::Part(Part { from, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_a_part_and_what_is_no_range_is_ignored() {
        let cases = [
            ("bytes=0-", part(0, 100)),
            ("bytes=10-19", part(10, 10)),
            ("bytes=99-", part(99, 1)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ];
        for (range, wanted) in cases {
            assert_eq!(parse(range, 100), wanted, "{range:?}");
        }
    }
}
