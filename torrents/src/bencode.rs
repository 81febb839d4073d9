//! Bencode (BEP 3) from and for others.
//!
//! `serde_bencode` reads what is small and has passed [`guard`]; alone it overflows the stack on
//! deep nesting and takes unsorted keys, duplicates and trailing bytes. What we send is written by
//! [`DictWriter`], which cannot fail.

use std::collections::BTreeMap;
use std::ops::Range;

/// Deepest nesting that any of our messages may have; the deepest of ours has 3.
pub const MAX_DEPTH: usize = 32;

/// Bytes that are not strict bencode within the caps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BencodeError {
    /// More bytes than the caller's cap.
    #[error("bencode of {found} bytes, expected at most {most}")]
    TooLong {
        /// The cap.
        most: usize,
        /// Bytes found.
        found: usize,
    },
    /// Lists and dictionaries are nested beyond the cap.
    #[error("bencode nested deeper than {most}")]
    TooDeep {
        /// The cap.
        most: usize,
    },
    /// The bytes end inside a value.
    #[error("bencode ends inside a value")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes after the bencoded value at {0}")]
    Trailing(usize),
    /// A byte that starts no value here.
    #[error("no bencoded value at {0}")]
    Unexpected(usize),
    /// An integer with leading zeros, minus zero, no digits, or outside 64 bits.
    #[error("malformed bencoded integer at {0}")]
    Integer(usize),
    /// A string length with leading zeros, or longer than the bytes left.
    #[error("malformed bencoded string length at {0}")]
    StringLength(usize),
    /// A dictionary key that is no string, not in order, or there twice.
    #[error("dictionary key missing, out of order or repeated at {0}")]
    Key(usize),
    /// The value has another shape than expected.
    #[error("unexpected bencoded value: {0}")]
    Shape(String),
}

/// What [`guard`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Where the value of the key `info` of the outermost dictionary lies. The info hash is that of
    /// these very bytes (BEP 3), which encoding a parsed value again would not always give back.
    pub info: Option<Range<usize>>,
}

/// Checks, without recursion and without allocating for what it reads, that `bytes` are one strictly
/// encoded value: keys sorted and unique, no leading zeros, integers within `i64`, nothing after the
/// value.
///
/// # Errors
/// The bytes are malformed or exceed a cap; both the sender's fault.
pub fn guard(bytes: &[u8], max_depth: usize, max_len: usize) -> Result<Guarded, BencodeError> {
    if bytes.len() > max_len {
        return Err(BencodeError::TooLong {
            most: max_len,
            found: bytes.len(),
        });
    }
    let mut scan = Scan { bytes, at: 0 };
    let mut open: Vec<Container<'_>> = Vec::new();
    let mut guarded = Guarded::default();
    let mut info_start = None;
    loop {
        // At the start of a value, or at the end of the innermost container.
        if let Some(container) = open.last_mut() {
            if scan.peek()? == b'e' {
                scan.at += 1;
                open.pop();
                if open.is_empty() {
                    break;
                }
                if open.len() == 1 {
                    close_info(&mut info_start, scan.at, &mut guarded);
                }
                continue;
            }
            if let Container::Dict { last_key } = container {
                let key_at = scan.at;
                let key = match scan.peek()? {
                    b'0'..=b'9' => scan.string()?,
                    _ => return Err(BencodeError::Key(key_at)),
                };
                if last_key.is_some_and(|last| last >= key) {
                    return Err(BencodeError::Key(key_at));
                }
                *last_key = Some(key);
                if open.len() == 1 && key == b"info" {
                    info_start = Some(scan.at);
                }
            }
        }
        let start = scan.at;
        match scan.peek()? {
            b'i' => scan.integer()?,
            b'0'..=b'9' => {
                scan.string()?;
            }
            opening @ (b'l' | b'd') => {
                if open.len() == max_depth {
                    return Err(BencodeError::TooDeep { most: max_depth });
                }
                scan.at += 1;
                open.push(match opening {
                    b'd' => Container::Dict { last_key: None },
                    _ => Container::List,
                });
                continue;
            }
            _ => return Err(BencodeError::Unexpected(start)),
        }
        match open.len() {
            0 => break,
            1 => close_info(&mut info_start, scan.at, &mut guarded),
            _ => {}
        }
    }
    if scan.at == bytes.len() {
        Ok(guarded)
    } else {
        Err(BencodeError::Trailing(scan.at))
    }
}

/// Guards `bytes`, then reads a `T`. Unknown keys are passed over.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    max_len: usize,
) -> Result<(T, Guarded), BencodeError> {
    let guarded = guard(bytes, MAX_DEPTH, max_len)?;
    let value = serde_bencode::from_bytes(bytes).map_err(|e| BencodeError::Shape(e.to_string()))?;
    Ok((value, guarded))
}

enum Container<'a> {
    List,
    Dict { last_key: Option<&'a [u8]> },
}

fn close_info(start: &mut Option<usize>, end: usize, guarded: &mut Guarded) {
    if let Some(start) = start.take() {
        guarded.info = Some(start..end);
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Result<u8, BencodeError> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(BencodeError::Truncated)
    }

    /// The digits from here on, at most 20 (no 64-bit number has more).
    fn digits(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest
            .iter()
            .take(20)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += count;
        rest.get(..count).unwrap_or_default()
    }

    fn integer(&mut self) -> Result<(), BencodeError> {
        let start = self.at;
        self.at += 1;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let magnitude = parse(self.digits()).ok_or(BencodeError::Integer(start))?;
        let most = i64::MAX.unsigned_abs() + u64::from(negative);
        let in_range = magnitude <= most && !(negative && magnitude == 0);
        if !in_range || self.peek()? != b'e' {
            return Err(BencodeError::Integer(start));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<&'a [u8], BencodeError> {
        let start = self.at;
        let length = parse(self.digits()).ok_or(BencodeError::StringLength(start))?;
        if self.peek()? != b':' {
            return Err(BencodeError::StringLength(start));
        }
        self.at += 1;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let string = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length));
        let string = string.ok_or(BencodeError::StringLength(start))?;
        self.at += string.len();
        Ok(string)
    }
}

/// A number without sign and leading zeros.
fn parse(digits: &[u8]) -> Option<u64> {
    match digits {
        [] | [b'0', _, ..] => None,
        digits => std::str::from_utf8(digits).ok()?.parse().ok(),
    }
}

/// Writes a dictionary; keys come out sorted whatever the order they were put in (BEP 3).
#[derive(Debug, Default)]
pub(crate) struct DictWriter(BTreeMap<Vec<u8>, Vec<u8>>);

impl DictWriter {
    pub(crate) fn integer(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        let value = value.into();
        self.raw(key.as_bytes(), format!("i{value}e").into_bytes())
    }

    pub(crate) fn string(&mut self, key: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.raw(key.as_bytes(), string(value.as_ref()))
    }

    /// Puts a value that is already encoded.
    pub(crate) fn raw(&mut self, key: &[u8], encoded: Vec<u8>) -> &mut Self {
        self.0.insert(key.to_vec(), encoded);
        self
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut out = vec![b'd'];
        for (key, value) in &self.0 {
            out.extend_from_slice(&string(key));
            out.extend_from_slice(value);
        }
        out.push(b'e');
        out
    }
}

pub(crate) fn string(value: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", value.len()).into_bytes();
    out.extend_from_slice(value);
    out
}

pub(crate) fn list(encoded: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = vec![b'l'];
    out.extend(encoded.into_iter().flatten());
    out.push(b'e');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) -> Result<Guarded, BencodeError> {
        guard(bytes, MAX_DEPTH, 1 << 20)
    }

    #[test]
    fn strict_bencode_passes() {
        for bytes in [
            &b"i0e"[..],
            b"i-1e",
            b"i9223372036854775807e",
            b"i-9223372036854775808e",
            b"0:",
            b"4:spam",
            b"le",
            b"de",
            b"l4:spami42elee",
            b"d3:cow3:moo4:spam4:eggse",
            b"d0:le1:ade2:aai1ee",
        ] {
            assert!(check(bytes).is_ok(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn loose_bencode_is_refused() {
        use BencodeError as E;
        let cases: [(&[u8], E); 25] = [
            (b"", E::Truncated),
            (b"l", E::Truncated),
            (b"d1:a", E::Truncated),
            (b"i1", E::Truncated),
            (b"i", E::Truncated),
            (b"4", E::Truncated),
            (b"e", E::Unexpected(0)),
            (b"x", E::Unexpected(0)),
            (b"i1ei2e", E::Trailing(3)),
            (b"le ", E::Trailing(2)),
            (b"ie", E::Integer(0)),
            (b"i-e", E::Integer(0)),
            (b"i-0e", E::Integer(0)),
            (b"i03e", E::Integer(0)),
            (b"i+5e", E::Integer(0)),
            (b"i9223372036854775808e", E::Integer(0)),
            (b"i-9223372036854775809e", E::Integer(0)),
            (b"i99999999999999999999999999999e", E::Integer(0)),
            (b"03:abc", E::StringLength(0)),
            (b"99999999999:abc", E::StringLength(0)),
            (b"99999999999999999999999:a", E::StringLength(0)),
            (b"di1ei2ee", E::Key(1)),
            (b"d1:bi1e1:ai1ee", E::Key(7)),
            (b"d1:ai1e1:ai1ee", E::Key(7)),
            (b"d1:ae", E::Unexpected(4)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(check(bytes), Err(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn nesting_is_capped_without_recursion() {
        let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            check(&nested(MAX_DEPTH + 1)),
            Err(BencodeError::TooDeep { most: MAX_DEPTH })
        );
        assert_eq!(
            guard(&nested(100_000), usize::MAX, usize::MAX),
            Ok(Guarded::default())
        );
    }

    #[test]
    fn the_length_is_capped() {
        let refused = Err(BencodeError::TooLong { most: 1, found: 2 });
        assert_eq!(guard(b"le", MAX_DEPTH, 1), refused);
    }

    #[test]
    fn the_span_of_info_is_that_of_the_outermost_dictionary() {
        let bytes = b"d1:ad4:infoi1ee4:infod1:xli2eee4:zzzz1:ae";
        let span = check(bytes).unwrap().info.unwrap();
        assert_eq!(&bytes[span], b"d1:xli2eee");
        let bytes = b"d4:info3:abce";
        assert_eq!(&bytes[check(bytes).unwrap().info.unwrap()], b"3:abc");
        assert_eq!(check(b"ld4:infoi1eee").unwrap().info, None);
        assert_eq!(check(b"de").unwrap().info, None);
    }

    #[test]
    fn a_dictionary_is_written_sorted() {
        let mut dict = DictWriter::default();
        dict.string("spam", "eggs")
            .integer("cow", 3_u32)
            .raw(b"a", list([string(b"x")]));
        assert_eq!(dict.finish(), b"d1:al1:xe3:cowi3e4:spam4:eggse");
    }

    fn values() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|value| format!("i{value}e").into_bytes()),
            any::<Vec<u8>>().prop_map(|value| string(&value)),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(list),
                prop::collection::btree_map(any::<Vec<u8>>(), inner, 0..6)
                    .prop_map(|entries| DictWriter(entries).finish()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_well_formed_passes_and_serde_bencode_reads_it(bytes in values()) {
            prop_assert!(check(&bytes).is_ok());
            let value: serde_bencode::value::Value = serde_bencode::from_bytes(&bytes).unwrap();
            prop_assert_eq!(serde_bencode::to_bytes(&value).unwrap(), bytes);
        }

        #[test]
        fn what_is_cut_short_is_refused(bytes in values(), at: prop::sample::Index) {
            let at = at.index(bytes.len());
            prop_assert!(check(&bytes[..at]).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = check(&bytes);
        }

        #[test]
        fn any_likely_bytes_are_read_or_refused(bytes in "[dlei0-9:-]{0,60}") {
            if check(bytes.as_bytes()).is_ok() {
                let read = serde_bencode::from_bytes::<serde_bencode::value::Value>(bytes.as_bytes());
                prop_assert!(read.is_ok());
            }
        }
    }
}
