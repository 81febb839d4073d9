//! Why a file was not had.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::expected_digest::ExpectedDigest;
use crate::torrent_swarm::DownloadError;

/// Why a file was not fetched, by cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The source does not give it to this caller, or does not have it.
    #[error("{url}: the source answered {status} {reason}")]
    Refused {
        /// Without what may be secret in it.
        url: String,
        /// Its HTTP status.
        status: u16,
        /// What the status means.
        reason: &'static str,
    },
    /// The source cannot be reached or breaks the rules of HTTP.
    #[error("{url}: the source {what}")]
    Source {
        /// Without what may be secret in it.
        url: String,
        /// What it does.
        what: String,
    },
    /// What came is not what it should be.
    #[error("digest mismatch: the source has {found}, --digest says {expected}; nothing written")]
    Digest {
        /// What was asked for.
        expected: Box<ExpectedDigest>,
        /// What came.
        found: Box<ExpectedDigest>,
    },
    /// The range lies after the end.
    #[error("{url}: --range {range} is outside of the file{}", length.map(|length| format!(", which has {length} bytes")).unwrap_or_default())]
    Range {
        /// Without what may be secret in it.
        url: String,
        /// What was asked for.
        range: super::ByteRange,
        /// Bytes of the file, when the source tells.
        length: Option<u64>,
    },
    /// The source delivers less than asked for.
    #[error(
        "{url}: the source delivers {found} bytes/s, less than --min-rate of {least} bytes/s; what has arrived is kept for the next attempt"
    )]
    TooSlow {
        /// Without what may be secret in it.
        url: String,
        /// Bytes per second.
        found: u64,
        /// Bytes per second.
        least: u64,
    },
    /// The time is over.
    #[error(
        "not complete within --timeout; what has arrived is kept, run the same command again to continue"
    )]
    TimedOut,
    /// The caller stopped it.
    #[error("interrupted; run the same command again to continue")]
    Interrupted,
    /// The swarm does not deliver, and the source was not to be asked.
    #[error("the swarm does not deliver: {0}")]
    Swarm(String),
    /// The supernodes that were named cannot help.
    #[error("{0}; check --supernode, or fetch the URL without it")]
    Supernodes(String),
    /// The torrent is not to be had.
    #[error(transparent)]
    Torrent(Box<DownloadError>),
    /// The disk refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The place where the file is to be does not do.
    #[error("{path}: {what}", path = path.display())]
    Output {
        /// The place.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It could not begin.
    #[error("{0}")]
    Setup(String),
}

impl From<DownloadError> for GetError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Stopped => Self::Interrupted,
            error => Self::Torrent(Box::new(error)),
        }
    }
}

impl GetError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
