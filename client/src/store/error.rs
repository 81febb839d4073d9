//! What the store could not do.

use std::io;
use std::path::{Path, PathBuf};

use flotilla_torrents::ContentId;

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the store is not what this version writes.
    #[error("{path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The layer came from another source, which alone can say who may have it.
    #[error("the layer came from {known}, not from {asked}")]
    OtherOrigin {
        /// Where it came from.
        known: String,
        /// Where it was asked for now.
        asked: String,
    },
    /// The bytes of a layer are not what they were when it was complete.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process owns the data directory.
    #[error("data directory {path} is in use by another flotilla; give each its own --data-dir")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The layer arrives from the swarm already.
    #[error("the layer {content} arrives in another way")]
    Arriving {
        /// What it is.
        content: ContentId,
    },
    /// The quota is taken by layers in use and pinned ones.
    #[error(
        "cache quota of {quota} bytes has no room for {wanted} bytes beside the layers in use and the pinned ones"
    )]
    Full {
        /// The quota.
        quota: u64,
        /// The size asked for.
        wanted: u64,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a layer was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such layer.
    #[error("not here")]
    Absent,
    /// It is never evicted.
    #[error("pinned")]
    Pinned,
    /// It is downloaded, read or uploaded.
    #[error("in use")]
    InUse,
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}
