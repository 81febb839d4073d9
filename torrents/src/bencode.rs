//! A strict look at foreign bencode (BEP 3) before a parser sees it.
//!
//! `serde_bencode` overflows the stack on nested input and takes what BEP 3 forbids;
//! this scan is iterative and refuses both.

use std::ops::Range;

/// Nested lists and dictionaries deeper than any message of the protocol.
pub const MOST_DEPTH: usize = 32;

/// Bytes are not canonical bencode within the bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BencodeError {
    /// Too many bytes to look at.
    #[error("{found} bytes of bencode, at most {cap} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// The cap.
        cap: usize,
    },
    /// Lists or dictionaries too deep.
    #[error("bencode nested deeper than {MOST_DEPTH}")]
    TooDeep,
    /// The bytes end inside a value.
    #[error("bencode ends early")]
    Truncated,
    /// A byte that cannot stand there.
    #[error("bencode malformed at byte {0}")]
    Malformed(usize),
    /// Keys not sorted or not unique.
    #[error("bencode dictionary keys not sorted and unique at byte {0}")]
    Keys(usize),
    /// Bytes after the value.
    #[error("bytes after the bencoded value at byte {0}")]
    Trailing(usize),
}

/// What the scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The bytes of the value of the top-level key `info`: what the info hash is computed of.
    pub info: Option<Range<usize>>,
}

enum Level {
    List,
    /// A dictionary with its last key; `true` while a value is due.
    Dictionary { last: Option<Range<usize>>, value_due: bool },
}

/// Checks that `bytes` is exactly one canonical bencoded value: at most `cap` bytes and
/// [`MOST_DEPTH`] levels, keys sorted and unique, integers in i64 without leading zeros.
///
/// # Errors
/// The first thing that is wrong.
pub fn guard(bytes: &[u8], cap: usize) -> Result<Scan, BencodeError> {
    if bytes.len() > cap {
        return Err(BencodeError::TooLong { found: bytes.len(), cap });
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut scan = Scan::default();
    let mut info_start = None;
    let mut at = 0;
    loop {
        let byte = *bytes.get(at).ok_or(BencodeError::Truncated)?;
        let key_due = matches!(levels.last(), Some(Level::Dictionary { value_due: false, .. }));
        let is_info = levels.len() == 1
            && matches!(levels.last(), Some(Level::Dictionary { last: Some(key), value_due: true })
                if bytes.get(key.clone()) == Some(b"info"));
        if is_info {
            info_start = Some(at);
        }
        match byte {
            b'e' => {
                match levels.pop() {
                    Some(Level::List | Level::Dictionary { value_due: false, .. }) => {}
                    _ => return Err(BencodeError::Malformed(at)),
                }
                at += 1;
            }
            b'0'..=b'9' => {
                let text = string(bytes, at)?;
                at = text.end;
                if let Some(Level::Dictionary { last, value_due: due @ false }) = levels.last_mut() {
                    let sorted = last.as_ref().is_none_or(|last| bytes.get(last.clone()) < bytes.get(text.clone()));
                    if !sorted {
                        return Err(BencodeError::Keys(text.start));
                    }
                    *last = Some(text);
                    *due = true;
                    continue;
                }
            }
            _ if key_due => return Err(BencodeError::Malformed(at)),
            b'i' => at = integer(bytes, at)?,
            b'l' | b'd' => {
                if levels.len() == MOST_DEPTH {
                    return Err(BencodeError::TooDeep);
                }
                levels.push(match byte {
                    b'l' => Level::List,
                    _ => Level::Dictionary { last: None, value_due: false },
                });
                at += 1;
                continue;
            }
            _ => return Err(BencodeError::Malformed(at)),
        }
        // A value is whole.
        if let Some(Level::Dictionary { value_due, .. }) = levels.last_mut() {
            *value_due = false;
        }
        if levels.len() == 1
            && let Some(start) = info_start.take()
        {
            scan.info = Some(start..at);
        }
        if levels.is_empty() {
            return if at == bytes.len() { Ok(scan) } else { Err(BencodeError::Trailing(at)) };
        }
    }
}

/// The span of the string's bytes; `at` is the first digit of its length.
fn string(bytes: &[u8], at: usize) -> Result<Range<usize>, BencodeError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = rest.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok());
    let leading_zero = digits > 1 && rest.first() == Some(&b'0');
    let length: usize = match number.map(str::parse) {
        Some(Ok(length)) if !leading_zero => length,
        _ => return Err(BencodeError::Malformed(at)),
    };
    match rest.get(digits) {
        Some(b':') => {}
        Some(_) => return Err(BencodeError::Malformed(at + digits)),
        None => return Err(BencodeError::Truncated),
    }
    let start = at + digits + 1;
    let end = start.checked_add(length).filter(|end| *end <= bytes.len());
    Ok(start..end.ok_or(BencodeError::Truncated)?)
}

/// The end of the integer; `at` is its `i`.
fn integer(bytes: &[u8], at: usize) -> Result<usize, BencodeError> {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    // 20 characters hold every i64.
    let length = rest.iter().take(21).position(|byte| *byte == b'e');
    let Some(length) = length else {
        return Err(if rest.len() > 20 { BencodeError::Malformed(at) } else { BencodeError::Truncated });
    };
    let text = rest.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("");
    let number: i64 = text.parse().map_err(|_| BencodeError::Malformed(at))?;
    // Canonical: no plus, no leading zero, no minus zero.
    if number.to_string() != text {
        return Err(BencodeError::Malformed(at));
    }
    Ok(at + length + 2)
}
