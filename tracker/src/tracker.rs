//! What the trackers over HTTP and UDP share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use flotilla_torrents::tracker_wire::{AnnounceRequest, ScrapeEntry};
use flotilla_torrents::{InfoHash, PeerId};
use parking_lot::Mutex;

use crate::gate::{Admission, Gate, LocalSeeder};
use crate::hand_out::HandOut;
use crate::membership::Membership;

/// A tracker that several tasks share. Cheap to clone.
#[derive(Clone)]
pub struct Tracker {
    membership: Arc<Mutex<Membership>>,
    gate: Arc<dyn Gate>,
    local_seeder: Option<LocalSeeder>,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").finish_non_exhaustive()
    }
}

impl Tracker {
    /// A tracker that asks `gate` about each announce. `local_seeder` is handed out for the swarms that
    /// the gate says it seeds.
    pub fn new(
        membership: Membership,
        gate: Arc<dyn Gate>,
        local_seeder: Option<LocalSeeder>,
    ) -> Self {
        Self {
            membership: Arc::new(Mutex::new(membership)),
            gate,
            local_seeder,
        }
    }

    /// Looks at, or changes, the membership.
    pub fn with<T>(&self, look: impl FnOnce(&mut Membership) -> T) -> T {
        look(&mut self.membership.lock())
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
        let (mut handed_out, most) = self.with(|members| {
            let handed_out = members.hand_out(now, source, trusted, request);
            (handed_out, members.config().max_peers)
        });
        if let Some((peer_id, address)) = self.local_seeder_for(&request.info_hash, source) {
            let response = &mut handed_out.response;
            response.complete = response.complete.saturating_add(1);
            let wants_seeders = request.left > 0 && request.numwant != Some(0);
            if wants_seeders && !request.is_stopped() {
                // It stays, and has the whole: no peer is better.
                response.peers.insert(0, address);
                handed_out.peer_ids.insert(0, peer_id);
                let most = request.numwant.unwrap_or(most).min(most);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                response.peers.truncate(most);
                handed_out.peer_ids.truncate(most);
            }
        }
        Ok(handed_out)
    }

    /// The counts of a swarm, if it is open; a closed swarm and a missing one give the same answer.
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
        if self.local_seeder.is_some() && self.gate.is_seeded_here(&swarm) {
            entry.complete = entry.complete.saturating_add(1);
        }
        Some(entry)
    }

    fn local_seeder_for(&self, swarm: &InfoHash, remote: IpAddr) -> Option<(PeerId, SocketAddr)> {
        let local_seeder = self
            .local_seeder
            .filter(|_| self.gate.is_seeded_here(swarm))?;
        Some((local_seeder.peer_id, local_seeder.address_for(remote)?))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::TrackerConfig;

    const SEEDER: PeerId = PeerId::from_bytes([99; 20]);

    /// Every caller is a member, and every swarm is seeded here.
    struct OpenHouse;

    impl Gate for OpenHouse {
        fn admit(&self, _: &AnnounceRequest) -> Admission {
            Admission::Member
        }

        fn is_open(&self, _: &InfoHash) -> bool {
            true
        }

        fn is_seeded_here(&self, _: &InfoHash) -> bool {
            true
        }
    }

    fn leecher(number: u8, numwant: Option<u32>) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash::from_bytes([7; 20]),
            peer_id: PeerId::from_bytes([number; 20]),
            port: 1000 + u16::from(number),
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left: 5,
            event: None,
            numwant,
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: None,
        }
    }

    #[test]
    fn the_seeder_of_this_host_is_among_as_many_peers_as_the_config_allows() {
        let config = TrackerConfig {
            max_peers: 3,
            ..TrackerConfig::default()
        };
        let local_seeder = LocalSeeder {
            peer_id: SEEDER,
            listen: SocketAddr::from(([10, 0, 0, 1], 9001)),
        };
        let tracker = Tracker::new(
            Membership::new(config, 1),
            Arc::new(OpenHouse),
            Some(local_seeder),
        );
        let remote = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
        for number in 0..10 {
            tracker
                .announce(remote, &leecher(number, None), None)
                .unwrap();
        }
        for (numwant, expected) in [(None, 3), (Some(100), 3), (Some(2), 2)] {
            let handed_out = tracker
                .announce(remote, &leecher(50, numwant), None)
                .unwrap();
            assert_eq!(handed_out.response.peers.len(), expected, "{numwant:?}");
            assert_eq!(handed_out.peer_ids.len(), expected, "{numwant:?}");
            assert_eq!(handed_out.response.peers[0], local_seeder.listen);
            assert_eq!(handed_out.peer_ids[0], SEEDER);
        }
    }
}
