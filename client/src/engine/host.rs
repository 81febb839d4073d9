//! What all swarms of a host share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::{TicketKey, TicketKeys};
use flotilla_torrents::PeerId;
use parking_lot::RwLock;

use crate::engine::hot_pieces::HotPieces;
use crate::engine::running_swarm::RunningSwarm;
use crate::peers::bans::Bans;
use crate::peers::connection::{Access, LocalIdentity};
use crate::peers::open_torrent::OpenTorrent;
use crate::store::Store;

#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) upload: RateLimiter,
    pub(crate) download: RateLimiter,
}

/// One host among its peers.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) peer_id: PeerId,
    /// Where peers connect to.
    pub(crate) listen: SocketAddr,
    pub(crate) limits: Limits,
    pub(crate) bans: Bans,
    pub(crate) store: Store,
    pub(crate) hot: Arc<HotPieces>,
    pub(super) keys: RwLock<Vec<TicketKey>>,
    /// Peers that are seeders of supernodes.
    pub(super) supernodes: RwLock<HashSet<PeerId>>,
}

impl Host {
    pub(crate) fn is_supernode(&self, peer: PeerId) -> bool {
        self.supernodes.read().contains(&peer)
    }

    /// How this host shows itself in a swarm: in the name of the torrent, or with a ticket.
    pub(crate) fn local_identity(
        &self,
        handle: &RunningSwarm,
        torrent: Option<&Arc<OpenTorrent>>,
    ) -> LocalIdentity {
        let access = match torrent {
            Some(torrent) => Access::Open {
                torrent: Some(Arc::clone(torrent)),
                complete: handle.status().complete,
                listen_port: self.listen.port(),
            },
            None => {
                let keys = self.keys.read();
                Access::Protected {
                    ticket: handle.0.ticket(),
                    keys: TicketKeys(keys.clone()),
                }
            }
        };
        LocalIdentity {
            swarm: torrent.map_or(handle.swarm(), |torrent| torrent.info_hash),
            peer_id: self.peer_id,
            access,
        }
    }
}
