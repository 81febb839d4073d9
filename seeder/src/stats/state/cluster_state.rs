//! What the supernode knows of its swarms and nodes: by what they report, and of itself.
//!
//! No clock and no IO of its own: every call is given the time. Everything is bounded; what has no
//! room is not counted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flotilla_cluster::messages::node_report::{HostReport, NodeReport, SwarmPart};
use flotilla_torrents::{ContentId, Geometry, InfoHash, PeerId};

use super::traffic::{History, Traffic};

/// A downloader announces itself every 5 seconds, see [`flotilla_tracker::TrackerConfig`].
const LEECHER_EXPIRY: Duration = Duration::from_secs(30);
/// A seeder at least every minute.
const SEEDER_EXPIRY: Duration = Duration::from_secs(150);
/// A node in no swarm is shown for so long after it was last heard.
const NODE_EXPIRY: Duration = Duration::from_secs(3600);
const MAX_NODES: usize = 50_000;
const MAX_SWARMS: usize = 100_000;
/// Parts of nodes in swarms, over all swarms.
const MAX_MEMBERS: usize = 400_000;
/// Different reasons that are kept for a swarm.
const MAX_REASONS: usize = 8;
/// Images that a swarm is known to belong to.
const MAX_IMAGES: usize = 8;
/// A rate is of the moment: busy nodes announce themselves three times as often.
const RATE_EXPIRY: Duration = Duration::from_secs(15);
/// A rate over less time than this says little.
const MIN_RATE_TIME: Duration = Duration::from_millis(500);

/// All of it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) started: Instant,
    pub(crate) swarms: HashMap<InfoHash, SwarmEntry>,
    pub(crate) nodes: HashMap<PeerId, NodeEntry>,
    pub(crate) history: History,
    pub(crate) own: OwnTotals,
    /// Contents so small that they came with the answer.
    pub(crate) small_contents: u64,
    members: usize,
}

/// What the supernode has done itself, since its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnTotals {
    pub(crate) source_requests: u64,
    pub(crate) source_bytes: u64,
    pub(crate) uploaded: u64,
    pub(crate) cache: u64,
    pub(crate) cache_quota: u64,
    pub(crate) shunned: u32,
}

/// A swarm on the supernode itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnSwarm {
    pub(crate) swarm: InfoHash,
    pub(crate) content: ContentId,
    pub(crate) geometry: Geometry,
    /// Pieces published, from the first on.
    pub(crate) published: u32,
    pub(crate) complete: bool,
    pub(crate) ingested: u64,
    pub(crate) uploaded: u64,
}

/// One swarm.
#[derive(Debug, Default)]
pub(crate) struct SwarmEntry {
    /// Registry and repository, or where else the content is from.
    pub(crate) name: String,
    /// The images that it belongs to, as people name them, those pulled last first.
    pub(crate) images: Vec<String>,
    pub(crate) content: String,
    pub(crate) geometry: Option<Geometry>,
    /// None when it does not run on the supernode.
    pub(crate) own: Option<OwnSwarm>,
    pub(crate) members: HashMap<PeerId, Member>,
    pub(crate) traffic: Traffic,
    /// Why nodes took bytes from the registry, and how often.
    pub(crate) registry_reasons: BTreeMap<String, u64>,
}

/// A node's part in one swarm.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) left: u64,
    pub(crate) uploaded: u64,
    pub(crate) part: SwarmPart,
    /// Bytes per second, between the last two announces.
    pub(crate) download_rate: u64,
    pub(crate) upload_rate: u64,
    pub(crate) seen: Instant,
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeEntry {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) host: HostReport,
    pub(crate) traffic: Traffic,
    pub(crate) uploaded: u64,
    pub(crate) seen: Instant,
}

/// A swarm that was opened to a node.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) swarm: InfoHash,
    pub(crate) naming: Naming<'a>,
    pub(crate) peer: PeerId,
    pub(crate) node: &'a str,
    /// Bytes that the supernode hands out whole, of content too small to be worth a swarm.
    pub(crate) whole: Option<u64>,
    /// These are in the answer itself: there is no swarm at all.
    pub(crate) is_inline: bool,
}

/// What a swarm is known by.
#[derive(Debug)]
pub(crate) struct Naming<'a> {
    pub(crate) name: &'a str,
    /// As people name them.
    pub(crate) images: &'a [String],
    pub(crate) content: &'a ContentId,
    pub(crate) geometry: Option<Geometry>,
}

/// A member's announce.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) swarm: InfoHash,
    pub(crate) peer: PeerId,
    pub(crate) address: SocketAddr,
    pub(crate) left: u64,
    pub(crate) uploaded: u64,
    pub(crate) stopped: bool,
    /// None from a node of a version that sends none.
    pub(crate) report: Option<NodeReport>,
}

impl ClusterState {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            swarms: HashMap::new(),
            nodes: HashMap::new(),
            history: History::new(now),
            own: OwnTotals::default(),
            small_contents: 0,
            members: 0,
        }
    }

    /// The supernode has let a node in.
    pub(crate) fn handle_opening(&mut self, now: Instant, opening: &Opening<'_>) {
        if let Some(node) = self.node(now, opening.peer) {
            node.name = shortened(opening.node);
        }
        if let Some(bytes) = opening.whole {
            self.small_contents += 1;
            let traffic = Traffic {
                from_supernode: bytes,
                ..Traffic::default()
            };
            self.history.add(now, &traffic);
            if let Some(node) = self.nodes.get_mut(&opening.peer) {
                node.traffic.add(&traffic);
            }
        }
        if !opening.is_inline {
            self.handle_naming(opening.swarm, &opening.naming);
        }
    }

    /// A swarm is opened under this name.
    pub(crate) fn handle_naming(&mut self, swarm: InfoHash, naming: &Naming<'_>) {
        let Some(swarm) = self.swarm(swarm) else {
            return;
        };
        swarm.name = shortened(naming.name);
        swarm.content = naming.content.to_string();
        swarm.geometry = naming.geometry.or(swarm.geometry);
        for image in naming.images.iter().take(MAX_IMAGES).rev() {
            let image = shortened(image);
            swarm.images.retain(|known| *known != image);
            swarm.images.insert(0, image);
        }
        swarm.images.truncate(MAX_IMAGES);
    }

    /// A member has announced itself. What it moved since its last announce is counted. Of a member
    /// that is new here the first announce says where counting begins, unless it is new everywhere:
    /// after a restart of the supernode nothing is counted twice.
    pub(crate) fn handle_announce(&mut self, now: Instant, announced: Announced) {
        let Announced { swarm, peer, .. } = announced;
        if announced.stopped {
            self.remove_member(swarm, peer);
            return;
        }
        let is_new = !self.swarm_has(swarm, peer);
        if self.swarm(swarm).is_none() || (is_new && self.members >= MAX_MEMBERS) {
            return;
        }
        let report = announced.report.unwrap_or_default();
        let Some(entry) = self.swarms.get_mut(&swarm) else {
            return;
        };
        let part = report.swarm;
        let (traffic, sent) = match entry.members.get(&peer) {
            Some(before) => (
                moved(&before.part, &part),
                since(before.uploaded, announced.uploaded),
            ),
            None if part.is_first => (moved(&SwarmPart::default(), &part), announced.uploaded),
            None => (Traffic::default(), 0),
        };
        let received = traffic.from_supernode.saturating_add(traffic.from_peers);
        let received = received.saturating_add(traffic.bypassed);
        let (download_rate, upload_rate) = match entry.members.get(&peer) {
            Some(before) => {
                let passed = now.saturating_duration_since(before.seen);
                if passed < MIN_RATE_TIME {
                    (before.download_rate, before.upload_rate)
                } else {
                    (per_second(received, passed), per_second(sent, passed))
                }
            }
            None => (0, 0),
        };
        if traffic.bypassed > 0
            && let Some(reason) = &part.registry_reason
            && (entry.registry_reasons.len() < MAX_REASONS
                || entry.registry_reasons.contains_key(reason))
        {
            *entry.registry_reasons.entry(reason.clone()).or_default() += 1;
        }
        entry.traffic.add(&traffic);
        let member = Member {
            left: announced.left,
            uploaded: announced.uploaded,
            part,
            download_rate: if announced.left == 0 && received == 0 {
                0
            } else {
                download_rate
            },
            upload_rate,
            seen: now,
        };
        entry.members.insert(peer, member);
        self.members += usize::from(is_new);
        self.history.add(now, &traffic);
        if let Some(node) = self.node(now, peer) {
            node.address = Some(announced.address);
            if !report.version.is_empty() {
                node.name = report.node;
                node.version = report.version;
                node.host = report.host;
            }
            node.traffic.add(&traffic);
            node.uploaded = node.uploaded.saturating_add(sent);
        }
    }

    /// What the supernode has done itself; `swarms` are all that run on it.
    pub(crate) fn handle_own(&mut self, now: Instant, own: OwnTotals, swarms: Vec<OwnSwarm>) {
        let ingested = own.source_bytes.saturating_sub(self.own.source_bytes);
        let traffic = Traffic {
            ingested,
            ..Traffic::default()
        };
        self.history.add(now, &traffic);
        self.own = own;
        for entry in self.swarms.values_mut() {
            entry.own = None;
        }
        for own in swarms {
            let Some(entry) = self.swarm(own.swarm) else {
                break;
            };
            entry.traffic.ingested = own.ingested;
            entry.geometry = Some(own.geometry);
            if entry.content.is_empty() {
                entry.content = own.content.to_string();
            }
            entry.own = Some(own);
        }
        self.expire(now);
    }

    fn expire(&mut self, now: Instant) {
        let age = |seen: Instant| now.saturating_duration_since(seen);
        let mut members = 0;
        for swarm in self.swarms.values_mut() {
            swarm.members.retain(|_, member| {
                age(member.seen)
                    < if member.left == 0 {
                        SEEDER_EXPIRY
                    } else {
                        LEECHER_EXPIRY
                    }
            });
            for member in swarm.members.values_mut() {
                if age(member.seen) >= RATE_EXPIRY {
                    (member.download_rate, member.upload_rate) = (0, 0);
                }
            }
            members += swarm.members.len();
        }
        self.members = members;
        self.swarms
            .retain(|_, swarm| swarm.own.is_some() || !swarm.members.is_empty());
        self.nodes.retain(|_, node| age(node.seen) < NODE_EXPIRY);
    }

    fn swarm_has(&self, swarm: InfoHash, peer: PeerId) -> bool {
        let swarm = self.swarms.get(&swarm);
        swarm.is_some_and(|swarm| swarm.members.contains_key(&peer))
    }

    fn remove_member(&mut self, swarm: InfoHash, peer: PeerId) {
        let swarm = self.swarms.get_mut(&swarm);
        if swarm.is_some_and(|swarm| swarm.members.remove(&peer).is_some()) {
            self.members = self.members.saturating_sub(1);
        }
    }

    fn swarm(&mut self, swarm: InfoHash) -> Option<&mut SwarmEntry> {
        let has_room = self.swarms.len() < MAX_SWARMS || self.swarms.contains_key(&swarm);
        has_room.then(|| self.swarms.entry(swarm).or_default())
    }

    fn node(&mut self, now: Instant, peer: PeerId) -> Option<&mut NodeEntry> {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&peer) {
            return None;
        }
        let node = self.nodes.entry(peer).or_insert_with(|| NodeEntry {
            name: String::new(),
            version: String::new(),
            address: None,
            host: HostReport::default(),
            traffic: Traffic::default(),
            uploaded: 0,
            seen: now,
        });
        node.seen = now;
        Some(node)
    }
}

impl NodeEntry {
    /// Whether it was heard of as often as it should.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) >= SEEDER_EXPIRY
    }
}

fn moved(before: &SwarmPart, now: &SwarmPart) -> Traffic {
    Traffic {
        ingested: 0,
        bypassed: since(before.from_registry, now.from_registry),
        from_supernode: since(before.from_supernodes, now.from_supernodes),
        from_peers: since(before.from_peers, now.from_peers),
    }
}

/// A counter that went back has begun anew: the node left the swarm and has come again.
fn since(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn per_second(bytes: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

fn shortened(text: &str) -> String {
    text.chars().take(NodeReport::MAX_TEXT_LENGTH).collect()
}

#[cfg(test)]
mod tests;
