//! Swarms and nodes as the page and the API show them, one row each.

use std::collections::HashMap;
use std::time::Instant;

use flotilla_cluster::messages::node_report::HeldPieces;
use flotilla_torrents::{InfoHash, PeerId};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema::Id;
use crate::stats::state::cluster_state::{ClusterState, Member, NodeEntry, SwarmEntry};
use crate::stats::state::traffic::TrafficBytes;

/// Transfers between peers, at most.
const MAX_EDGES: usize = 200;

/// Where a swarm is on the supernode that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SwarmPhase {
    /// It arrives from the registry.
    Arriving,
    /// The supernode has all of it.
    Complete,
    /// It does not run there (any more); the nodes have it among themselves.
    Elsewhere,
}

/// One swarm of many.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SwarmRow {
    #[schema(value_type = Id)]
    pub(crate) id: InfoHash,
    /// Registry and repository, or the URL.
    pub(crate) name: String,
    /// The images that it was pulled as part of, as people name them, those pulled last first;
    /// none when it was asked for by digest only.
    #[schema(max_items = 8)]
    pub(crate) images: Vec<String>,
    /// Its digest.
    pub(crate) content: String,
    pub(crate) phase: SwarmPhase,
    pub(crate) size_bytes: u64,
    pub(crate) pieces: u32,
    pub(crate) published_pieces: u32,
    /// Nodes that have everything; the supernode is not counted.
    pub(crate) seeders: u32,
    pub(crate) leechers: u32,
    /// Mean over the nodes.
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) progress: f64,
    /// Copies of the piece that fewest have, the supernode's included.
    pub(crate) rarest_copies: u32,
    pub(crate) download_bytes_per_second: u64,
    /// Until all nodes have it at this rate; null when nothing is missing or nothing moves.
    #[schema(required)]
    pub(crate) time_left_seconds: Option<u64>,
    #[serde(flatten)]
    pub(crate) traffic: TrafficBytes,
    /// What the supernode read from the registry.
    pub(crate) first_copy_bytes: u64,
    /// Why nodes most often took bytes from the registry.
    #[schema(required)]
    pub(crate) registry_reason: Option<String>,
}

/// One node of many.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NodeRow {
    #[schema(value_type = Id)]
    pub(crate) id: PeerId,
    pub(crate) name: String,
    #[schema(required)]
    pub(crate) address: Option<String>,
    pub(crate) version: String,
    /// Whether it announces itself as often as it should.
    pub(crate) is_heard: bool,
    pub(crate) last_heard_seconds: u64,
    pub(crate) swarms: u32,
    /// Swarms of which something is missing.
    pub(crate) downloads: u32,
    pub(crate) download_bytes_per_second: u64,
    pub(crate) upload_bytes_per_second: u64,
    #[serde(flatten)]
    pub(crate) traffic: TrafficBytes,
    pub(crate) uploaded_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) cache_quota_bytes: u64,
    pub(crate) shunned_peers: u32,
}

/// A node's part in a swarm.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Part)]
pub(crate) struct PartRow {
    #[schema(value_type = Id)]
    pub(crate) node: PeerId,
    pub(crate) node_name: String,
    #[schema(value_type = Id)]
    pub(crate) swarm: InfoHash,
    pub(crate) swarm_name: String,
    pub(crate) content: String,
    pub(crate) size_bytes: u64,
    pub(crate) left_bytes: u64,
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) progress: f64,
    pub(crate) download_bytes_per_second: u64,
    pub(crate) upload_bytes_per_second: u64,
    pub(crate) from_registry_bytes: u64,
    pub(crate) from_supernode_bytes: u64,
    pub(crate) from_peers_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) wasted_bytes: u64,
    pub(crate) connections: u32,
    pub(crate) last_heard_seconds: u64,
    #[schema(required)]
    pub(crate) registry_reason: Option<String>,
}

/// How many hold which part of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PieceMap)]
pub(crate) struct PieceMapView {
    /// Pieces that each number of `copies` stands for.
    pub(crate) pieces_per_stretch: u32,
    /// Stretches published.
    pub(crate) published: u32,
    /// Of each stretch, the supernode's included.
    pub(crate) copies: Vec<u32>,
}

/// Bytes sent from peer to peer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Edge {
    #[schema(value_type = Id)]
    pub(crate) from: PeerId,
    pub(crate) from_name: String,
    #[schema(value_type = Id)]
    pub(crate) to: PeerId,
    pub(crate) to_name: String,
    pub(crate) bytes: u64,
}

/// All rows at one moment.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) taken: Instant,
    pub(crate) swarms: Vec<SwarmRow>,
    pub(crate) nodes: Vec<NodeRow>,
}

impl Rows {
    pub(crate) fn of(cluster: &ClusterState, now: Instant) -> Self {
        let swarms = cluster.swarms.iter();
        let swarms = swarms.map(|(id, swarm)| swarm_row(*id, swarm)).collect();
        let mut parts: HashMap<PeerId, NodeParts> = HashMap::new();
        for (peer, member) in cluster.swarms.values().flat_map(|swarm| &swarm.members) {
            let part = parts.entry(*peer).or_default();
            part.swarms += 1;
            part.downloads += u32::from(member.left > 0);
            part.down = part.down.saturating_add(member.download_rate);
            part.up = part.up.saturating_add(member.upload_rate);
        }
        let nodes = cluster.nodes.iter().map(|(id, node)| {
            let parts = parts.get(id).copied().unwrap_or_default();
            node_row(now, *id, node, parts)
        });
        Self {
            taken: now,
            swarms,
            nodes: nodes.collect(),
        }
    }
}

/// A node over all its swarms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeParts {
    swarms: u32,
    downloads: u32,
    down: u64,
    up: u64,
}

impl NodeParts {
    pub(crate) fn of(cluster: &ClusterState, id: &PeerId) -> Self {
        let mut sum = Self::default();
        for member in cluster.swarms.values().filter_map(|s| s.members.get(id)) {
            sum.swarms += 1;
            sum.downloads += u32::from(member.left > 0);
            sum.down = sum.down.saturating_add(member.download_rate);
            sum.up = sum.up.saturating_add(member.upload_rate);
        }
        sum
    }
}

pub(crate) fn node_row(now: Instant, id: PeerId, node: &NodeEntry, parts: NodeParts) -> NodeRow {
    NodeRow {
        id,
        name: node.name.clone(),
        address: node.address.map(|address| address.to_string()),
        version: node.version.clone(),
        is_heard: !node.is_silent(now),
        last_heard_seconds: now.saturating_duration_since(node.seen).as_secs(),
        swarms: parts.swarms,
        downloads: parts.downloads,
        download_bytes_per_second: parts.down,
        upload_bytes_per_second: parts.up,
        traffic: node.traffic.into(),
        uploaded_bytes: node.uploaded,
        cache_bytes: node.host.cache,
        cache_quota_bytes: node.host.cache_quota,
        shunned_peers: node.host.shunned,
    }
}

pub(crate) fn swarm_row(id: InfoHash, swarm: &SwarmEntry) -> SwarmRow {
    let members = swarm.members.values();
    let seeders = count(members.clone().filter(|member| member.left == 0).count());
    let leechers = count(swarm.members.len()).saturating_sub(seeders);
    let size = swarm.geometry.map_or(0, |geometry| geometry.length());
    let left = members.clone().map(|member| member.left.min(size)).sum();
    let rate = members.map(|member| member.download_rate).sum();
    let all = size.saturating_mul(u64::from(seeders + leechers));
    let reasons = swarm.registry_reasons.iter();
    let reason = reasons.max_by_key(|(_, times)| **times);
    let own = swarm.own.as_ref();
    SwarmRow {
        id,
        name: swarm.name.clone(),
        images: swarm.images.clone(),
        content: swarm.content.clone(),
        phase: match own {
            Some(own) if own.complete => SwarmPhase::Complete,
            Some(_) => SwarmPhase::Arriving,
            None => SwarmPhase::Elsewhere,
        },
        size_bytes: size,
        pieces: swarm.geometry.map_or(0, |geometry| geometry.piece_count()),
        published_pieces: own.map_or(0, |own| own.published),
        seeders,
        leechers,
        progress: share(all, left),
        rarest_copies: piece_map(swarm).copies.into_iter().min().unwrap_or(0),
        download_bytes_per_second: rate,
        time_left_seconds: (left > 0).then(|| left.checked_div(rate)).flatten(),
        traffic: swarm.traffic.into(),
        first_copy_bytes: swarm.traffic.ingested,
        registry_reason: reason.map(|(reason, _)| reason.clone()),
    }
}

/// The part of `all` that is not `left`, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn share(all: u64, left: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let share = all.saturating_sub(left) as f64 / all as f64;
    // A node that lacks a byte is not shown as done.
    (share * 1000.0).floor() / 1000.0
}

pub(crate) fn piece_map(swarm: &SwarmEntry) -> PieceMapView {
    let pieces = swarm.geometry.map_or(0, |geometry| geometry.piece_count());
    let per_stretch = HeldPieces::pieces_per_stretch(pieces);
    let published = swarm.own.as_ref().map_or(0, |own| own.published);
    // A stretch counts when all of it is there; the last one may be shorter.
    let published = if published == pieces {
        HeldPieces::stretches(pieces)
    } else {
        published / per_stretch
    };
    let seeders = swarm.members.values().filter(|member| member.left == 0);
    let seeders = count(seeders.count());
    let stretches = usize::try_from(HeldPieces::stretches(pieces)).unwrap_or(0);
    let mut copies = vec![seeders; stretches];
    let own = usize::try_from(published).unwrap_or(0);
    for copies in copies.iter_mut().take(own) {
        *copies += 1;
    }
    for member in swarm.members.values().filter(|member| member.left > 0) {
        for stretch in member.part.held.iter() {
            if let Some(copies) = copies.get_mut(stretch) {
                *copies += 1;
            }
        }
    }
    PieceMapView {
        pieces_per_stretch: per_stretch,
        published,
        copies,
    }
}

pub(crate) fn part_row(
    now: Instant,
    cluster: &ClusterState,
    (id, swarm): (InfoHash, &SwarmEntry),
    (peer, member): (PeerId, &Member),
) -> PartRow {
    let size = swarm.geometry.map_or(0, |geometry| geometry.length());
    let part = &member.part;
    PartRow {
        node: peer,
        node_name: name_of(cluster, &peer),
        swarm: id,
        swarm_name: swarm.name.clone(),
        content: swarm.content.clone(),
        size_bytes: size,
        left_bytes: member.left,
        progress: share(size, member.left.min(size)),
        download_bytes_per_second: member.download_rate,
        upload_bytes_per_second: member.upload_rate,
        from_registry_bytes: part.from_registry,
        from_supernode_bytes: part.from_supernodes,
        from_peers_bytes: part.from_peers,
        uploaded_bytes: member.uploaded,
        wasted_bytes: part.wasted,
        connections: part.peers,
        last_heard_seconds: now.saturating_duration_since(member.seen).as_secs(),
        registry_reason: part.registry_reason.clone(),
    }
}

/// The largest parts of a swarm's traffic. `own` is the supernode's peer id.
pub(crate) fn edges(cluster: &ClusterState, swarm: &SwarmEntry, own: &PeerId) -> Vec<Edge> {
    let members = swarm.members.iter();
    let served =
        members.flat_map(|(to, member)| member.part.served_by.iter().map(move |s| (to, s)));
    let mut served: Vec<_> = served.collect();
    served.sort_unstable_by_key(|(to, served)| (std::cmp::Reverse(served.bytes), **to));
    served.truncate(MAX_EDGES);
    let edges = served.into_iter().map(|(to, served)| Edge {
        from: served.peer,
        from_name: if served.peer == *own {
            "supernode".to_owned()
        } else {
            name_of(cluster, &served.peer)
        },
        to: *to,
        to_name: name_of(cluster, to),
        bytes: served.bytes,
    });
    edges.collect()
}

fn name_of(cluster: &ClusterState, peer: &PeerId) -> String {
    let node = cluster.nodes.get(peer);
    node.map(|node| node.name.clone()).unwrap_or_default()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
