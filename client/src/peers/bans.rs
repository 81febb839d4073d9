//! Peers that this host shuns.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_torrents::PeerId;
use parking_lot::Mutex;

/// Long enough to finish any download without the peer, short enough that a repaired host
/// comes back without an operator.
const BAN_TIME: Duration = Duration::from_secs(600);

/// The peers that are shunned, by peer id (tickets are bound to it) and by the address that was dialled.
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans(Arc<Mutex<Shunned>>);

#[derive(Debug, Default)]
struct Shunned {
    peers: HashMap<PeerId, Instant>,
    addresses: HashMap<SocketAddr, Instant>,
}

impl Bans {
    pub(crate) fn shun(&self, peer: PeerId, dialled: Option<SocketAddr>) {
        let now = Instant::now();
        let mut shunned = self.lock();
        shunned
            .peers
            .retain(|_, since| now.duration_since(*since) < BAN_TIME);
        shunned
            .addresses
            .retain(|_, since| now.duration_since(*since) < BAN_TIME);
        shunned.peers.insert(peer, now);
        if let Some(address) = dialled {
            shunned.addresses.insert(address, now);
        }
    }

    pub(crate) fn is_shunned(&self, peer: PeerId) -> bool {
        self.lock()
            .peers
            .get(&peer)
            .is_some_and(|since| since.elapsed() < BAN_TIME)
    }

    pub(crate) fn is_shunned_address(&self, address: SocketAddr) -> bool {
        self.lock()
            .addresses
            .get(&address)
            .is_some_and(|since| since.elapsed() < BAN_TIME)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock()
            .peers
            .values()
            .filter(|since| since.elapsed() < BAN_TIME)
            .count()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Shunned> {
        self.0.lock()
    }
}
