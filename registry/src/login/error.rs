//! Why there is no login at a registry.

use super::credential_helper::HelperError;
use crate::source::SourceError;

/// No login at a registry.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The operator has not listed it.
    #[error("the supernode's operator has not listed registry {0}")]
    NotListed(String),
    /// Not the URL of anything in a repository.
    #[error("the URL names no repository")]
    NoRepository,
    /// A credential helper fails.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The registry wants something else than Basic or Bearer.
    #[error("registry {0} wants a login that is neither Basic nor Bearer")]
    Challenge(String),
    /// The registry wants a login, and there are no credentials for it.
    #[error("registry {0} wants a login, and there are no credentials for it")]
    NoCredentials(String),
    /// The registry names a token service that must not get the credentials.
    #[error(
        "the token service of registry {0} has no TLS, but the registry has: credentials are not sent"
    )]
    PlainRealm(String),
    /// The token service gives none.
    #[error("the token service of registry {registry} answered {status}")]
    Refused {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
    },
    /// The token service's answer is not understood.
    #[error("the token service of registry {0} answered without a token")]
    NoToken(String),
    /// Registry or token service cannot be reached.
    #[error(transparent)]
    Source(#[from] SourceError),
}
