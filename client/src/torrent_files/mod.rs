//! Torrents of files on this disk: [`LocalContent`] makes them, [`verify`] compares,
//! [`TorrentStorage`] keeps their pieces for a swarm.
//!
//! Pieces are read and hashed on all cores, each in small parts, so that memory depends neither on
//! the piece length nor on the content.

mod local_content;
pub mod path_filter;
mod piece_hashing;
mod selection;
mod storage;
mod verification;

pub use self::local_content::{CreateError, LeftOut, LocalContent};
pub use self::selection::FileSelection;
pub use self::selection::NothingSelectedError;
pub use self::storage::{TorrentStorage, publish};
pub use self::verification::{FileReport, FileState, Verification, VerifyError, verify};

use tokio_util::sync::CancellationToken;

/// Where progress is reported, and when to stop.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called with the bytes of each piece that is done, from any thread.
    pub advanced: &'a (dyn Fn(u64) + Sync),
    /// Ends the work after the pieces that are being hashed.
    pub stop: &'a CancellationToken,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("stop", self.stop)
            .finish_non_exhaustive()
    }
}
