//! What all swarms of a host share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::{TicketKey, TicketKeys};
use flotilla_torrents::PeerId;
use parking_lot::{Mutex, RwLock};

use crate::engine::disk_room::DiskRoom;
use crate::engine::hot_pieces::HotPieces;
use crate::engine::running_swarm::RunningSwarm;
use crate::engine::swarms::Swarms;
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
    pub(super) swarms: Arc<Mutex<Swarms>>,
    pub(crate) hot: Arc<HotPieces>,
    pub(super) keys: RwLock<Vec<TicketKey>>,
    /// Peers that are seeders of supernodes.
    pub(super) supernodes: RwLock<HashSet<PeerId>>,
}

impl DiskRoom for Host {
    fn free_disk(&self, bytes: u64) -> bool {
        let freed = self.store.free_disk(bytes);
        self.leave_evicted();
        freed
    }
}

impl Host {
    /// Leaves the swarms of layers that were evicted, also for what could not be kept after all.
    pub(super) fn leave_evicted(&self) {
        for layer in self.store.take_evicted() {
            if let Some(running) = self.swarms.lock().remove(&layer.swarm()) {
                running.stop.cancel();
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use flotilla_torrents::{ContentId, DigestHasher, Geometry};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::engine::disk_room::write_with_room;
    use crate::engine::{Engine, EngineConfig};

    async fn engine(dir: &std::path::Path) -> Engine {
        let config = EngineConfig {
            data_dir: dir.to_owned(),
            cache_quota: 1 << 40,
            upload_rate: None,
            download_rate: None,
        };
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Engine::start(&config, peers, CancellationToken::new()).unwrap()
    }

    async fn layer(engine: &Engine, byte: u8) -> ContentId {
        let bytes = vec![byte; 2 << 20];
        let sha256 = DigestHasher::sha256_of(&bytes);
        let content = ContentId::blob(&sha256);
        let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
        let swarm = engine
            .join(&content, geometry, "http://registry")
            .await
            .unwrap();
        let layer = Arc::clone(swarm.layer());
        engine.store().complete(&layer, &bytes, sha256).unwrap();
        engine.leave(&swarm.swarm());
        swarm.closed().await;
        content
    }

    /// Waits until no lease is left of the swarm that brought the layer.
    async fn unused(engine: &Engine, content: &ContentId) {
        while engine.store().layer(content).unwrap().is_leased() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_costs_unused_layers_and_not_the_piece_that_comes() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path()).await;
        let (old, pinned) = (layer(&engine, 1).await, layer(&engine, 2).await);
        unused(&engine, &old).await;
        engine.store().set_pinned(&pinned, true).unwrap().unwrap();
        let full = || match engine.store().bytes() {
            0..=2_097_152 => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
        };
        write_with_room(engine.0.host.as_ref(), 1, full).unwrap();
        assert!(engine.store().layer(&old).is_none() && engine.store().layer(&pinned).is_some());
        // With nothing left to evict, the disk has the last word.
        let never = || Err(io::ErrorKind::StorageFull.into());
        let refused = write_with_room(engine.0.host.as_ref(), 1, never);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
