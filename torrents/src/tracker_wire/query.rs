//! Query strings whose values are bytes: an info hash is percent-encoded as it is, so its value is
//! no UTF-8 (BEP 3).

use std::fmt::Write as _;

/// Most parameters of one query: 74 info hashes (the most that a UDP scrape has, BEP 15) and others.
const MAX_PARAMETERS: usize = 128;

/// A query string beyond the caps or malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// More bytes than the cap.
    #[error("query of {found} bytes, expected at most {most}")]
    TooLong {
        /// The cap.
        most: usize,
        /// Bytes found.
        found: usize,
    },
    /// More parameters than the cap.
    #[error("query with more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    /// `%` without two hexadecimal digits.
    #[error("malformed percent encoding in the query")]
    PercentEncoding,
}

/// `name=value`, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The parameters in order. `+` stands for itself: BitTorrent clients
/// encode by RFC 3986, not as forms do.
pub(super) fn parse(query: &str, most: usize) -> Result<Vec<Parameter>, QueryError> {
    if query.len() > most {
        return Err(QueryError::TooLong {
            most,
            found: query.len(),
        });
    }
    let mut parameters = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == MAX_PARAMETERS {
            return Err(QueryError::TooManyParameters);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push(Parameter {
            name: percent_decode(name)?,
            value: percent_decode(value)?,
        });
    }
    Ok(parameters)
}

/// Appends `name=value`; the name needs no encoding.
pub(super) fn append(query: &mut String, name: &str, value: &[u8]) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    for byte in value {
        // RFC 3986 section 2.3: the unreserved characters.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            query.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(query, "%{byte:02X}");
        }
    }
}

fn percent_decode(text: &str) -> Result<Vec<u8>, QueryError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(nibble), bytes.next().and_then(nibble)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(QueryError::PercentEncoding),
            },
            byte => byte,
        });
    }
    Ok(decoded)
}

fn nibble(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_bytes_and_plus_is_plus() {
        let parameters = parse("a=%00%fF+&&b&=c", 100).unwrap();
        let pair = |name: &[u8], value: &[u8]| Parameter {
            name: name.to_vec(),
            value: value.to_vec(),
        };
        assert_eq!(
            parameters,
            [pair(b"a", b"\x00\xff+"), pair(b"b", b""), pair(b"", b"c")]
        );
    }

    #[test]
    fn caps_and_bad_encodings_are_refused() {
        assert_eq!(
            parse("abc", 2),
            Err(QueryError::TooLong { most: 2, found: 3 })
        );
        for query in ["a=%", "a=%0", "a=%0g", "%é=1"] {
            assert_eq!(
                parse(query, 100),
                Err(QueryError::PercentEncoding),
                "{query}"
            );
        }
        let many = "a&".repeat(MAX_PARAMETERS + 1);
        assert_eq!(parse(&many, 1000), Err(QueryError::TooManyParameters));
    }

    proptest! {
        #[test]
        fn round_trip(value: Vec<u8>) {
            let mut query = String::new();
            append(&mut query, "name", &value);
            prop_assert_eq!(parse(&query, usize::MAX), Ok(vec![Parameter { name: b"name".to_vec(), value }]));
        }

        #[test]
        fn any_text_is_read_or_refused(query: String, likely in "[%0-9a-f&=]{0,40}") {
            let _ = parse(&query, 100);
            let _ = parse(&likely, 100);
        }
    }
}
