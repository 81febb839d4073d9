//! What the trackers over HTTP and UDP share.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flotilla_torrents::tracker_wire::{AnnounceRequest, AnnounceResponse, ScrapeEntry};
use flotilla_torrents::{InfoHash, PeerId};

use crate::gate::{Admission, Gate, Resident};
use crate::{Membership, TrackerConfig};

/// A tracker that several tasks share. Cheap to clone.
#[derive(Clone)]
pub struct Tracker {
    membership: Arc<Mutex<Membership>>,
    gate: Arc<dyn Gate>,
    resident: Option<Resident>,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").finish_non_exhaustive()
    }
}

/// A granted announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOut {
    /// What the peer is told.
    pub response: AnnounceResponse,
    /// The names of the peers, in their order.
    pub peer_ids: Vec<PeerId>,
}

impl Tracker {
    /// A tracker that asks `gate` about each announce. `resident` is handed out for the swarms that
    /// the gate says it seeds.
    pub fn new(membership: Membership, gate: Arc<dyn Gate>, resident: Option<Resident>) -> Self {
        Self {
            membership: Arc::new(Mutex::new(membership)),
            gate,
            resident,
        }
    }

    /// Looks at, or changes, the membership.
    pub fn with<T>(&self, look: impl FnOnce(&mut Membership) -> T) -> T {
        look(
            &mut self
                .membership
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The answer to an announce from `remote`, or the reason why it is refused.
    pub(crate) fn announce(
        &self,
        remote: IpAddr,
        request: &AnnounceRequest,
        report: Option<&[u8]>,
    ) -> Result<HandOut, String> {
        let trusted = match self.gate.admit(request) {
            Admission::Open => false,
            Admission::Member => true,
            Admission::Refused(reason) => return Err(reason),
        };
        let source = remote.to_canonical();
        if trusted {
            self.gate.heard(source, request, report);
        }
        let now = Instant::now();
        let mut handed_out = self.with(|members| members.hand_out(now, source, trusted, request));
        if let Some((peer_id, address)) = self.resident_of(&request.info_hash, source) {
            let response = &mut handed_out.response;
            response.complete = response.complete.saturating_add(1);
            let wants_seeders = request.left > 0 && request.numwant != Some(0);
            if wants_seeders && !request.is_stopped() {
                // It stays, and has the whole: nobody is a better peer.
                response.peers.insert(0, address);
                handed_out.peer_ids.insert(0, peer_id);
                let most = TrackerConfig::default().most_peers;
                let most = request.numwant.unwrap_or(most).min(most);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                response.peers.truncate(most);
                handed_out.peer_ids.truncate(most);
            }
        }
        Ok(handed_out)
    }

    /// The counts of a swarm, if it is open; what is closed is not told from what is not there.
    pub(crate) fn scrape(&self, swarm: InfoHash) -> Option<ScrapeEntry> {
        if !self.gate.is_open(&swarm) {
            return None;
        }
        let now = Instant::now();
        let counted = self.with(|members| members.scrape(now, swarm));
        let mut entry = counted.unwrap_or(ScrapeEntry {
            info_hash: swarm,
            complete: 0,
            downloaded: 0,
            incomplete: 0,
        });
        if self.resident.is_some() && self.gate.is_seeded_here(&swarm) {
            entry.complete = entry.complete.saturating_add(1);
        }
        Some(entry)
    }

    fn resident_of(&self, swarm: &InfoHash, remote: IpAddr) -> Option<(PeerId, SocketAddr)> {
        let resident = self.resident.filter(|_| self.gate.is_seeded_here(swarm))?;
        Some((resident.peer_id, resident.address_for(remote)?))
    }
}
