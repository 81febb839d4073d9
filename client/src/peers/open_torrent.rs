//! What a public swarm tells its peers.

use bytes::Bytes;
use flotilla_torrents::{InfoHash, Metainfo};

/// A torrent in whose name this host meets strangers.
#[derive(Debug)]
pub(crate) struct OpenTorrent {
    pub(crate) info_hash: InfoHash,
    /// The info dictionary, for peers that came by a magnet link (BEP 9).
    pub(crate) info: Bytes,
    /// Peers come from the trackers alone (BEP 27).
    pub(crate) private: bool,
}

impl OpenTorrent {
    pub(crate) fn new(torrent: &Metainfo) -> Self {
        Self {
            info_hash: torrent.info_hash(),
            info: Bytes::copy_from_slice(torrent.info()),
            private: torrent.is_private(),
        }
    }
}
