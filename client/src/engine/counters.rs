//! The bytes that went through swarms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that went through one swarm on this host, or through all of them.
#[derive(Debug, Default)]
pub struct SwarmCounters {
    /// Verified bytes from peers (the supernode is one of them).
    pub downloaded: AtomicU64,
    /// Bytes of blocks sent to peers.
    pub uploaded: AtomicU64,
    /// Bytes of blocks that were of use, before their pieces were verified.
    pub received: AtomicU64,
    /// Those of them that came from supernodes.
    pub from_supernodes: AtomicU64,
    /// Bytes received that were of no use: duplicates and corrupt pieces.
    pub wasted: AtomicU64,
    /// Bytes taken from the source: at a supernode those of the first copy, at a node those that
    /// the swarm did not bring.
    pub from_registry: AtomicU64,
    /// Those of all swarms since the program started.
    host: Option<Arc<SwarmCounters>>,
}

impl SwarmCounters {
    /// The counters of one swarm; what they count counts for the host as well.
    pub(super) fn within(host: Arc<Self>) -> Self {
        Self {
            host: Some(host),
            ..Self::default()
        }
    }

    pub(crate) fn count(&self, counter: fn(&Self) -> &AtomicU64, bytes: u64) {
        counter(self).fetch_add(bytes, Ordering::Relaxed);
        if let Some(host) = &self.host {
            counter(host).fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
