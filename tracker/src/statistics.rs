//! What the tracker tells operators.

use std::net::SocketAddr;

use flotilla_torrents::{InfoHash, PeerId};
use serde::Serialize;

/// All swarms and nodes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Statistics {
    /// By swarm.
    pub swarms: Vec<SwarmStatistics>,
    /// By node, over all its swarms.
    pub nodes: Vec<NodeStatistics>,
}

/// One swarm.
#[derive(Clone, Debug, Serialize)]
pub struct SwarmStatistics {
    /// Its name on the wire.
    pub swarm: InfoHash,
    /// Members that have everything.
    pub seeders: u32,
    /// Members that lack something.
    pub leechers: u32,
    /// Downloads completed.
    pub completed: u32,
    /// Bytes that its members sent, by their own word.
    pub uploaded: u64,
    /// Bytes that its members received, by their own word.
    pub downloaded: u64,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatistics {
    /// Its name on the wire.
    pub peer: PeerId,
    /// Its name for operators.
    pub name: String,
    /// Where its peers connect to.
    pub address: SocketAddr,
    /// Seconds since its last announce.
    pub last_seen_seconds: u64,
    /// Swarms that it takes part in.
    pub swarms: u32,
    /// Bytes sent, by its own word.
    pub uploaded: u64,
    /// Bytes received, by its own word.
    pub downloaded: u64,
}
