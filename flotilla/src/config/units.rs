//! Values that carry their units: `200MB/s`, `64GiB`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Text that is no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub(crate) struct UnitError {
    found: String,
    expected: &'static str,
}

/// A number of bytes: `64GiB`, `500MB`, `1048576`. Units are B, kB, MB, GB, TB (powers of
/// 1000) and KiB, MiB, GiB, TiB (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteCount(pub(crate) u64);

/// Bytes per second: `200MB/s`, `20MiB/s`, or `unlimited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<u64>);

/// A time: `30s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

fn bytes(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let factor = match unit {
        "" => 1,
        unit => {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
                .1
        }
    };
    number.checked_mul(factor)
}

impl FromStr for ByteCount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = "a number of bytes such as 64GiB or 500MB";
        bytes(text.trim()).map(Self).ok_or_else(|| UnitError {
            found: text.to_owned(),
            expected,
        })
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = "a rate such as 200MB/s or 20MiB/s, or unlimited";
        let error = || UnitError {
            found: text.to_owned(),
            expected,
        };
        let text = text.trim();
        if text == "unlimited" {
            return Ok(Self(None));
        }
        let count = text.strip_suffix("/s").unwrap_or(text);
        match bytes(count) {
            // A rate below one kilobyte per second is a slip of the unit.
            Some(rate) if rate >= 1000 => Ok(Self(Some(rate))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(rate) => write!(f, "{}/s", ByteCount(rate)),
        }
    }
}

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = "a time such as 30s or 5m";
        let parsed = humantime::parse_duration(text.trim());
        parsed.map(Self).map_err(|_| UnitError {
            found: text.to_owned(),
            expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_they_say() {
        assert_eq!("64GiB".parse(), Ok(ByteCount(64 << 30)));
        assert_eq!("500 MB".parse(), Ok(ByteCount(500_000_000)));
        assert_eq!("17".parse(), Ok(ByteCount(17)));
        assert_eq!("20MB/s".parse(), Ok(Rate(Some(20_000_000))));
        assert_eq!("20MiB/s".parse(), Ok(Rate(Some(20 << 20))));
        assert_eq!("unlimited".parse(), Ok(Rate(None)));
        assert_eq!("30s".parse(), Ok(Time(Duration::from_secs(30))));
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["", "MB", "-1MB", "1.5.2MB", "5 parsecs", "99999999999TB"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
        assert!("20".parse::<Rate>().is_err(), "twenty bytes per second");
        assert_eq!(
            "fast".parse::<Rate>().unwrap_err().to_string(),
            "\"fast\" is not a rate such as 200MB/s or 20MiB/s, or unlimited"
        );
    }

    #[test]
    fn what_is_printed_is_read() {
        for count in [0, 1, 1000, 1024, 64 << 30, 20_000_000, 12345] {
            assert_eq!(ByteCount(count).to_string().parse(), Ok(ByteCount(count)));
        }
        for rate in [None, Some(20_000_000), Some(1 << 20)] {
            assert_eq!(Rate(rate).to_string().parse(), Ok(Rate(rate)));
        }
    }
}
