//! A web server as a peer (BEP 19): it has all pieces, and answers requests by HTTP ranges.
//!
//! The swarm sees a peer like any other; what it sends is verified piece by piece.

mod fetch;

use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::{Metainfo, TorrentFile};
use reqwest::StatusCode;
use url::Url;

use crate::swarm::{OWN_BLOCK, PeerTraits};

/// Requests that a web seed is given at once.
const REQUEST_QUEUE: u32 = 128;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Why a web seed is dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebSeedError {
    /// The address is invalid.
    #[error("{0:?} is not an http or https address")]
    Address(String),
    /// It does not answer, or breaks off.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// It answers with something else than the range.
    #[error("answered {status} to a range, expected 206")]
    Status {
        /// Its status.
        status: StatusCode,
    },
    /// It sends another range.
    #[error("sent the range {found:?}, expected {expected:?}")]
    Range {
        /// What it says it sends.
        found: String,
        /// What it was asked for.
        expected: String,
    },
    /// The body ends early.
    #[error("the body ended {0} bytes early")]
    Short(u64),
}

impl WebSeedError {
    /// Whether it may be better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Status { status } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// A web server that has the content of a torrent.
#[derive(Debug)]
pub struct WebSeed {
    pub(super) torrent: Arc<Metainfo>,
    base: Url,
    pub(super) http: reqwest::Client,
}

impl WebSeed {
    /// The server at `address`, which is the file's, or that of the directory it is in.
    pub fn new(torrent: Arc<Metainfo>, address: &str) -> Result<Self, WebSeedError> {
        let no_address = || WebSeedError::Address(address.to_owned());
        let base = Url::parse(address).map_err(|_| no_address())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(no_address());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()?;
        Ok(Self {
            torrent,
            base,
            http,
        })
    }

    /// How the swarm treats it: it requests blocks, and announces nothing to it.
    pub fn traits() -> PeerTraits {
        PeerTraits {
            authorized: false,
            stranger: true,
            block_length: OWN_BLOCK,
            request_queue: REQUEST_QUEUE,
            fast: true,
        }
    }

    /// Where it is, for logs: the path may be a secret.
    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// BEP 19: a directory's address is followed by the torrent's name and the file's path; that of
    /// a single file by its name when it ends with a slash.
    pub(super) fn address(&self, file: &TorrentFile) -> Url {
        let mut url = self.base.clone();
        let in_directory = self.base.path().ends_with('/') || self.torrent.is_directory();
        if in_directory && let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.push(self.torrent.name());
            segments.extend(file.path());
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::{Geometry, PieceHash};

    use super::*;

    fn seed(torrent: Metainfo, address: &str) -> WebSeed {
        let _ = rustls::crypto::ring::default_provider().install_default();
        WebSeed::new(Arc::new(torrent), address).unwrap()
    }

    fn directory() -> Metainfo {
        let path = vec!["sub dir".to_owned(), "a?b%".to_owned()];
        let file = TorrentFile::new(path, 40_000).unwrap();
        let geometry = Geometry::new(40_000, 1 << 14).unwrap();
        let hashes = vec![PieceHash::of(b""); 3];
        Metainfo::of_directory("the name", vec![file], geometry, hashes, false).unwrap()
    }

    #[test]
    fn the_path_of_a_file_is_put_behind_the_address_of_a_directory() {
        let expected = "http://host/files/the%20name/sub%20dir/a%3Fb%25";
        for address in ["http://host/files/", "http://host/files"] {
            let seed = seed(directory(), address);
            let file = &seed.torrent.files()[0];
            assert_eq!(seed.address(file).as_str(), expected);
        }
    }

    #[test]
    fn a_single_file_has_the_address_itself_or_its_name_below_it() {
        let geometry = Geometry::new(1, 1 << 14).unwrap();
        let torrent =
            || Metainfo::new("f", geometry, vec![PieceHash::of(b"")], false, &[], &[]).unwrap();
        for (address, expected) in [
            ("http://host/x/other", "http://host/x/other"),
            ("http://host/x/", "http://host/x/f"),
        ] {
            let seed = seed(torrent(), address);
            assert_eq!(seed.address(&seed.torrent.files()[0]).as_str(), expected);
        }
    }
}
