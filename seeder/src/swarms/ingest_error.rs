//! Why an ingest does not bring its content, and whether asking again may help.

use flotilla_registry::pace::TooSlow;
use flotilla_registry::source::SourceError;
use flotilla_torrents::Digest;

/// Why an ingest ends without the whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the connection to the source ended after {0} bytes")]
    Short(u64),
    #[error("the source sent more than {0} bytes")]
    Long(u64),
    #[error("the bytes are {found}, not {expected}")]
    Digest {
        expected: Box<Digest>,
        found: Box<Digest>,
    },
    #[error("the content at the source has changed")]
    Changed,
    #[error(transparent)]
    Slow(#[from] TooSlow),
    #[error("the layer cannot be stored: {0}")]
    Disk(#[from] std::io::Error),
}

impl IngestError {
    /// Whether asking again may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Source(error) => is_passing(error),
            Self::Short(_) => true,
            Self::Long(_) | Self::Digest { .. } | Self::Changed | Self::Slow(_) | Self::Disk(_) => {
                false
            }
        }
    }
}

/// A source that cannot be reached, or that has too much to do (RFC 9110 section 15.6, RFC 6585
/// section 4), is asked again.
pub(super) fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Unreachable(_) => true,
        SourceError::Refused { status } => matches!(status, 408 | 429 | 500..=599),
        _ => false,
    }
}
