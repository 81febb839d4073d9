//! One login at a registry.

use std::fmt;

use data_encoding::BASE64;

/// Headers for a request in the supernode's own name.
pub type LoginHeaders = Vec<(String, String)>;

/// What a registry or its token service asks for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A user's name and password.
    Password { user: String, password: String },
    /// A refresh token (RFC 6749 section 6), which only a token service takes.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The value of an `Authorization` header (RFC 7617); an identity token has none.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                let pair = format!("{user}:{password}");
                Some(format!("Basic {}", BASE64.encode(pair.as_bytes())))
            }
            Self::IdentityToken(_) => None,
        }
    }
}
