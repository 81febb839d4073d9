//! The header `traceparent` (W3C Trace Context, section 3.2).

use std::fmt;

use data_encoding::HEXLOWER;
use http::HeaderMap;

/// Of version 00; later ones may append to it.
const LENGTH: usize = 55;
/// Of a version that is not known, longer ones are not looked at.
const MAX_LENGTH: usize = 512;
const SAMPLED: u8 = 1;

/// A span of a trace, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace_id: [u8; 16],
    /// The span; never zero.
    pub span_id: [u8; 8],
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// The header's name.
    pub const HEADER: &'static str = "traceparent";

    /// What the headers name, if they name one, and only one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(Self::HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let version = text.get(0..2)?;
        let is_known = version == "00";
        let fits = match text.len() {
            LENGTH => true,
            0..LENGTH => false,
            length => !is_known && length <= MAX_LENGTH && text.get(55..56) == Some("-"),
        };
        let has_dashes = [2, 35, 52].map(|at| text.get(at..at + 1)) == [Some("-"); 3];
        if !fits || !has_dashes || version == "ff" || hex::<1>(version).is_none() {
            return None;
        }
        let parent = Self {
            trace_id: hex(text.get(3..35)?)?,
            span_id: hex(text.get(36..52)?)?,
            is_sampled: hex::<1>(text.get(53..55)?)?[0] & SAMPLED != 0,
        };
        (parent.trace_id != [0; 16] && parent.span_id != [0; 8]).then_some(parent)
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Capitals are not allowed.
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        write!(
            f,
            "00-{}-{}-{flags:02x}",
            HEXLOWER.encode(&self.trace_id),
            HEXLOWER.encode(&self.span_id)
        )
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let parent = TraceParent::parse(EXAMPLE).unwrap();
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), EXAMPLE);
        let later = EXAMPLE.replacen("00", "cc", 1) + "-what-will-be-01";
        assert_eq!(TraceParent::parse(&later), Some(parent));
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        let long = EXAMPLE.replacen("00", "cc", 1) + "-" + &"x".repeat(10_000);
        for text in [
            "",
            "00",
            &EXAMPLE[..54],
            &(EXAMPLE.to_owned() + "-00"),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replacen("00", "ff", 1),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &EXAMPLE.replace('4', "é"),
            &long,
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn two_of_them_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TraceParent::HEADER, HeaderValue::from_static(EXAMPLE));
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TraceParent::HEADER, HeaderValue::from_static(EXAMPLE));
        assert_eq!(TraceParent::of(&headers), None);
    }
}
