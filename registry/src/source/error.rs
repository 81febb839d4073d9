//! What goes wrong at a source.

/// Why a source does not deliver, by who is to blame.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It refuses this caller, or does not have it.
    #[error("the source answered {status}")]
    Refused {
        /// Its HTTP status.
        status: u16,
    },
    /// It cannot be reached, or the connection broke.
    #[error("the source cannot be reached: {0}")]
    Unreachable(String),
    /// The URL is not one that a supernode fetches.
    #[error("not a URL to fetch: {0}")]
    Url(&'static str),
    /// It answered against the rules of HTTP.
    #[error("the source's answer is malformed: {0}")]
    Nonsense(&'static str),
}
