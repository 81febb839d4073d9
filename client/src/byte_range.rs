//! A part of a file: RFC 9110 section 14.1.2.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Which bytes of a file, in the notation of HTTP: `A-B` with both ends, `A-` from there on, `-N` the
/// last N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// Both ends are in it.
    Between(u64, u64),
    /// From there to the end.
    From(u64),
    /// So many at the end; not 0.
    Last(u64),
}

/// Text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of bytes such as 0-499, 500- or -500")]
pub struct ByteRangeError(String);

impl FromStr for ByteRange {
    type Err = ByteRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let parsed = match text.split_once('-') {
            Some(("", last)) => number(last).filter(|last| *last > 0).map(Self::Last),
            Some((first, "")) => number(first).map(Self::From),
            Some((first, last)) => number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last && *last < u64::MAX)
                .map(|(first, last)| Self::Between(first, last)),
            None => None,
        };
        parsed.ok_or_else(|| ByteRangeError(text.to_owned()))
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between(first, last) => write!(f, "{first}-{last}"),
            Self::From(first) => write!(f, "{first}-"),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

impl ByteRange {
    /// Whether so many bytes are meant, and not all that there are from somewhere on.
    pub fn has_end(&self) -> bool {
        matches!(self, Self::Between(..) | Self::Last(_))
    }

    /// The bytes of a file of `length` bytes; none when it begins after the end.
    pub fn of(&self, length: u64) -> Option<Range<u64>> {
        match *self {
            Self::Between(first, last) if first < length => {
                Some(first..last.saturating_add(1).min(length))
            }
            Self::From(first) if first < length => Some(first..length),
            Self::Last(count) if length > 0 => Some(length.saturating_sub(count)..length),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_mean_what_http_says() {
        let of = |text: &str, length| text.parse::<ByteRange>().unwrap().of(length);
        assert_eq!(of("0-499", 1000), Some(0..500));
        assert_eq!(of("500-9999", 1000), Some(500..1000));
        assert_eq!(of("500-", 1000), Some(500..1000));
        assert_eq!(of("-500", 1000), Some(500..1000));
        assert_eq!(of("-500", 10), Some(0..10));
        assert_eq!(of("1000-", 1000), None);
        assert_eq!(of("-1", 0), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "-",
            "5",
            "9-5",
            "-0",
            "a-b",
            "1-2,3-4",
            "+1-2",
            " 0-1",
            "1-2-3",
            "0-18446744073709551615",
        ] {
            assert!(text.parse::<ByteRange>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_fits(text: String, length: u64) {
            if let Ok(range) = text.parse::<ByteRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
                if let Some(of) = range.of(length) {
                    prop_assert!(of.start < of.end && of.end <= length);
                }
            }
        }
    }
}
