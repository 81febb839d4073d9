//! The answer to an announce that the gate admits.

use flotilla_torrents::PeerId;
use flotilla_torrents::tracker_wire::AnnounceResponse;

/// A granted announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOut {
    /// The answer to the peer.
    pub response: AnnounceResponse,
    /// The names of the peers, in their order.
    pub peer_ids: Vec<PeerId>,
}
