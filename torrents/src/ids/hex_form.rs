//! The text form that fixed-size byte strings share: lower-case hexadecimal.

/// Text that is not the hexadecimal form of a fixed number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HexError {
    /// The text or byte string has another length.
    #[error("{what} of {found} bytes, expected {expected}")]
    Length {
        /// What was to be read.
        what: &'static str,
        /// Bytes it has.
        expected: usize,
        /// Bytes found, hexadecimal digits counted in pairs.
        found: usize,
    },
    /// The text holds something other than hexadecimal digits.
    #[error("{what} must be hexadecimal digits")]
    Digits {
        /// What was to be read.
        what: &'static str,
    },
}

/// Decodes exactly `N` bytes, digits of either case.
///
/// # Errors
/// The text has another length, or holds something other than digits.
pub fn decode<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], HexError> {
    if text.len() != 2 * N {
        return Err(HexError::Length {
            what,
            expected: N,
            found: text.len().div_ceil(2),
        });
    }
    let mut bytes = [0; N];
    data_encoding::HEXLOWER_PERMISSIVE
        .decode_mut(text.as_bytes(), &mut bytes)
        .map_err(|_| HexError::Digits { what })?;
    Ok(bytes)
}

/// Gives a tuple struct around `[u8; $length]` its text form, and serde through that.
#[macro_export]
macro_rules! hex_form {
    ($name:ident, $length:expr, $what:literal) => {
        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                data_encoding::HEXLOWER.encode_display(&self.0).fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::ids::hex_form::decode(text, $what).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = $crate::HexError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                let exact = <[u8; $length]>::try_from(bytes);
                exact.map(Self).map_err(|_| $crate::HexError::Length {
                    what: $what,
                    expected: $length,
                    found: bytes.len(),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// As `hex_form`, for what may appear in logs and can be made from any bytes.
#[macro_export]
macro_rules! public_id {
    ($name:ident, $length:expr, $what:literal) => {
        $crate::hex_form!($name, $length, $what);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::InfoHash;

    #[test]
    fn digits_of_either_case_are_read_and_lower_case_is_written() {
        let id: InfoHash = "00112233445566778899AABBCCDDEEFF00112233".parse().unwrap();
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff00112233");
        assert_eq!(
            format!("{id:?}"),
            "InfoHash(00112233445566778899aabbccddeeff00112233)"
        );
    }

    #[test]
    fn a_wrong_length_is_named() {
        let error = "abcd".parse::<InfoHash>().unwrap_err();
        assert_eq!(error.to_string(), "info hash of 2 bytes, expected 20");
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(bytes: [u8; 20]) {
            let id = InfoHash::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<InfoHash>(&json).unwrap(), id);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<InfoHash>();
        }
    }
}
