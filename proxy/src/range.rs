//! Single byte ranges: RFC 9110 section 14.1.2.

use std::ops::Range;

/// One satisfiable or unsatisfiable, but well-formed, byte range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// `bytes=a-b`, both inclusive.
    Between(u64, u64),
    /// `bytes=a-`.
    From(u64),
    /// `bytes=-n`: the last n bytes.
    Last(u64),
}

/// The range begins past the end: 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsatisfiable;

impl ByteRange {
    /// None for what is malformed, reversed, empty or more than one range: registries disagree
    /// about those, so theirs is the answer to give.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (unit, set) = header.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.split_once('-')?;
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => number(last).filter(|count| *count > 0).map(Self::Last),
            (false, true) => Some(Self::From(number(first)?)),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// Whether the client wants so many bytes, and not all that there are from somewhere on.
    pub(crate) fn has_end(self) -> bool {
        matches!(self, Self::Between(..) | Self::Last(_))
    }

    /// The bytes it means of a representation of `length` bytes.
    pub(crate) fn resolve(self, length: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if range.start < range.end {
            Ok(range)
        } else {
            Err(Unsatisfiable)
        }
    }
}

/// Digits only: `u64::from_str` would take a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_understood() {
        assert_eq!(
            ByteRange::parse("bytes=0-0"),
            Some(ByteRange::Between(0, 0))
        );
        assert_eq!(ByteRange::parse("bytes=7-"), Some(ByteRange::From(7)));
        assert_eq!(ByteRange::parse("Bytes=-3"), Some(ByteRange::Last(3)));
    }

    #[test]
    fn everything_else_is_left_to_the_registry() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=-0",
            "bytes=5-4",
            "bytes=0-1,4-5",
            "bytes=+1-2",
            "bytes= 0-1",
            "items=0-1",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=0-18446744073709551616",
        ] {
            assert_eq!(ByteRange::parse(header), None, "{header}");
        }
    }

    #[test]
    fn ranges_are_clamped_to_the_length() {
        assert_eq!(ByteRange::Between(2, 3).resolve(10), Ok(2..4));
        assert_eq!(ByteRange::Between(2, u64::MAX).resolve(10), Ok(2..10));
        assert_eq!(ByteRange::From(9).resolve(10), Ok(9..10));
        assert_eq!(ByteRange::Last(4).resolve(10), Ok(6..10));
        assert_eq!(ByteRange::Last(40).resolve(10), Ok(0..10));
    }

    #[test]
    fn a_range_past_the_end_is_unsatisfiable() {
        assert_eq!(ByteRange::Between(10, 12).resolve(10), Err(Unsatisfiable));
        assert_eq!(ByteRange::From(10).resolve(10), Err(Unsatisfiable));
        assert_eq!(ByteRange::Last(0).resolve(10), Err(Unsatisfiable));
        assert_eq!(ByteRange::From(0).resolve(0), Err(Unsatisfiable));
    }
}
