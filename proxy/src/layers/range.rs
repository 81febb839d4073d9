//! `Range` fields of one range: RFC 9110 section 14.2.

use flotilla_client::ByteRange;

/// None for what is malformed, reversed, empty or more than one range: registries disagree about
/// those, so theirs is the answer to give.
pub(crate) fn single_range(field: &str) -> Option<ByteRange> {
    let (unit, set) = field.split_once('=')?;
    let in_bytes = unit.eq_ignore_ascii_case("bytes");
    in_bytes.then(|| set.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_understood() {
        assert_eq!(single_range("bytes=0-0"), Some(ByteRange::Between(0, 0)));
        assert_eq!(single_range("bytes=7-"), Some(ByteRange::From(7)));
        assert_eq!(single_range("Bytes=-3"), Some(ByteRange::Last(3)));
    }

    #[test]
    fn everything_else_is_left_to_the_registry() {
        for field in [
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
            assert_eq!(single_range(field), None, "{field}");
        }
    }
}
