//! The cluster's secret, which members show.

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

/// Its SHA-256: comparing hashes takes the same time wherever they differ. None: every host may join.
#[derive(Clone)]
pub(crate) struct JoinToken(Option<[u8; 32]>);

impl JoinToken {
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| Sha256::digest(token).into()))
    }

    /// Whether there is one to show.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a request with these headers comes from a member.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = self.0 else {
            return true;
        };
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        bearer.is_some_and(|token| <[u8; 32]>::from(Sha256::digest(token)) == expected)
    }
}
