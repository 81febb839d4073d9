//! Who is in which swarm. No clock, no socket: time comes in with each call.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use flotilla_torrents::tracker_wire::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, ScrapeEntry,
};
use flotilla_torrents::{InfoHash, PeerId};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;

use crate::hand_out::HandOut;

/// What bounds the tracker, and how often peers come back.
///
/// # Defaults
/// See each field.
#[derive(Clone, Copy, Debug)]
pub struct TrackerConfig {
    /// Announce interval of leechers; default 5 s: a download lasts tens of seconds.
    pub busy_interval: Duration,
    /// Announce interval of seeders in a swarm without leechers; default 60 s.
    pub quiet_interval: Duration,
    /// Announce interval of strangers; default 60 s. Their programs have a least interval of their
    /// own, of up to five minutes.
    pub stranger_interval: Duration,
    /// A stranger that has not announced for this long is gone; default 15 min: twice what the
    /// most patient program waits, and more.
    pub stranger_expiry: Duration,
    /// Strangers in one swarm with the same address; default 64: the hosts behind one router.
    pub strangers_per_address: usize,
    /// Peers handed out when the peer names no number; default 50.
    pub default_numwant: u32,
    /// Peers handed out at most; default 200: 1.2 KiB.
    pub max_peers: u32,
    /// Peers in one swarm; default 20,000. Further ones are served and not remembered.
    pub swarm_cap: usize,
    /// Swarms; default 100,000.
    pub swarms_cap: usize,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            busy_interval: Duration::from_secs(5),
            quiet_interval: Duration::from_secs(60),
            stranger_interval: Duration::from_secs(60),
            stranger_expiry: Duration::from_secs(15 * 60),
            strangers_per_address: 64,
            default_numwant: 50,
            max_peers: 200,
            swarm_cap: 20_000,
            swarms_cap: 100_000,
        }
    }
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    trusted: bool,
    left: u64,
    seen: Instant,
    expires_after: Duration,
}

#[derive(Debug, Default)]
struct Members {
    peers: HashMap<PeerId, Member>,
    completed: u32,
}

impl Members {
    fn seeders(&self) -> u32 {
        count(
            self.peers
                .values()
                .filter(|member| member.left == 0)
                .count(),
        )
    }

    fn leechers(&self) -> u32 {
        count(self.peers.values().filter(|member| member.left > 0).count())
    }

    /// Whether a stranger at `source` may say something of `peer`: not of one that is elsewhere,
    /// and of a new one only while there are not too many of them at this address.
    fn may_speak_for(&self, config: &TrackerConfig, peer: &PeerId, source: IpAddr) -> bool {
        match self.peers.get(peer) {
            Some(known) => !known.trusted && known.address.ip() == source,
            None => {
                let there = self.peers.values();
                let there = there.filter(|m| !m.trusted && m.address.ip() == source);
                there.count() < config.strangers_per_address
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        self.peers
            .retain(|_, member| now.saturating_duration_since(member.seen) <= member.expires_after);
    }
}

/// All swarms of one tracker.
#[derive(Debug)]
pub struct Membership {
    config: TrackerConfig,
    swarms: HashMap<InfoHash, Members>,
    rng: SmallRng,
}

impl Membership {
    /// A tracker without swarms. `seed` makes its choice of peers repeatable.
    pub fn new(config: TrackerConfig, seed: u64) -> Self {
        Self {
            config,
            swarms: HashMap::new(),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn config(&self) -> &TrackerConfig {
        &self.config
    }

    /// Takes an announce and hands out peers at once: a leecher gets anybody, a seeder gets
    /// leechers. A stranger gets anybody: aria2 with a magnet link names itself a seeder until it has
    /// the metainfo, for which it needs one. `source`: where the request came from. `trusted`: the peer has shown that
    /// it belongs here, so that the address it names counts, and what it says of a peer id.
    pub fn hand_out(
        &mut self,
        now: Instant,
        source: IpAddr,
        trusted: bool,
        request: &AnnounceRequest,
    ) -> HandOut {
        if !self.swarms.contains_key(&request.info_hash)
            && self.swarms.len() >= self.config.swarms_cap
        {
            self.sweep(now);
        }
        let config = self.config;
        let swarm = self.swarms.entry(request.info_hash).or_default();
        swarm.expire(now);
        let counts = trusted || swarm.may_speak_for(&config, &request.peer_id, source);
        if request.is_stopped() {
            if counts {
                swarm.peers.remove(&request.peer_id);
            }
            return HandOut {
                response: response(&config, swarm, trusted, Vec::new()),
                peer_ids: Vec::new(),
            };
        }
        if counts && request.event == Some(AnnounceEvent::Completed) {
            swarm.completed = swarm.completed.saturating_add(1);
        }
        let ip = request.ip.filter(|_| trusted).unwrap_or(source);
        let member = Member {
            address: SocketAddr::new(ip, request.port),
            trusted,
            left: request.left,
            seen: now,
            // Two missed announces and a bit.
            expires_after: if trusted {
                interval(&config, swarm, request.left) * 5 / 2
            } else {
                config.stranger_expiry
            },
        };
        let is_known = swarm.peers.contains_key(&request.peer_id);
        if counts && (is_known || swarm.peers.len() < config.swarm_cap) {
            swarm.peers.insert(request.peer_id, member);
        }
        let wanted = request
            .numwant
            .unwrap_or(config.default_numwant)
            .min(config.max_peers);
        let candidates = swarm.peers.iter().filter(|(peer, member)| {
            **peer != request.peer_id
                && (!trusted || request.left > 0 || member.left > 0)
                && member.address.port() != 0
        });
        let (peer_ids, peers) = candidates
            .map(|(peer_id, member)| (*peer_id, member.address))
            .sample(&mut self.rng, usize::try_from(wanted).unwrap_or(0))
            .into_iter()
            .unzip();
        HandOut {
            response: response(&config, swarm, trusted, peers),
            peer_ids,
        }
    }

    /// The counts of one swarm (BEP 48).
    pub fn scrape(&mut self, now: Instant, info_hash: InfoHash) -> Option<ScrapeEntry> {
        let swarm = self.swarms.get_mut(&info_hash)?;
        swarm.expire(now);
        Some(ScrapeEntry {
            info_hash,
            complete: swarm.seeders(),
            downloaded: swarm.completed,
            incomplete: swarm.leechers(),
        })
    }

    /// Forgets a swarm.
    pub fn remove(&mut self, info_hash: &InfoHash) {
        self.swarms.remove(info_hash);
    }

    /// Drops swarms without members.
    fn sweep(&mut self, now: Instant) {
        self.swarms.retain(|_, members| {
            members.expire(now);
            !members.peers.is_empty()
        });
    }
}

fn interval(config: &TrackerConfig, swarm: &Members, left: u64) -> Duration {
    if left > 0 || swarm.peers.values().any(|member| member.left > 0) {
        config.busy_interval
    } else {
        config.quiet_interval
    }
}

fn response(
    config: &TrackerConfig,
    swarm: &Members,
    trusted: bool,
    peers: Vec<SocketAddr>,
) -> AnnounceResponse {
    let busy = swarm.leechers() > 0;
    let interval = if !trusted {
        config.stranger_interval
    } else if busy {
        config.busy_interval
    } else {
        config.quiet_interval
    };
    AnnounceResponse {
        interval: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
        min_interval: Some(1),
        complete: swarm.seeders(),
        incomplete: swarm.leechers(),
        peers,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWARM: InfoHash = InfoHash::from_bytes([7; 20]);
    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn peer(number: u8, left: u64, event: Option<AnnounceEvent>) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: SWARM,
            peer_id: PeerId::from_bytes([number; 20]),
            port: 1000 + u16::from(number),
            ip: None,
            uploaded: 10,
            downloaded: 20,
            left,
            event,
            numwant: None,
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: None,
        }
    }

    fn tracker() -> (Membership, Instant) {
        (Membership::new(TrackerConfig::default(), 1), Instant::now())
    }

    impl Membership {
        fn announce(
            &mut self,
            now: Instant,
            source: IpAddr,
            trusted: bool,
            request: &AnnounceRequest,
        ) -> AnnounceResponse {
            self.hand_out(now, source, trusted, request).response
        }
    }

    fn ports(response: &AnnounceResponse) -> Vec<u16> {
        let mut ports: Vec<u16> = response.peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn the_first_announce_is_answered_with_all_who_are_there() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, true, &peer(1, 0, None));
        tracker.announce(now, SOURCE, true, &peer(2, 5, Some(AnnounceEvent::Started)));
        let third = tracker.announce(now, SOURCE, true, &peer(3, 5, Some(AnnounceEvent::Started)));
        assert_eq!(ports(&third), [1001, 1002]);
        assert_eq!((third.complete, third.incomplete), (1, 2));
    }

    #[test]
    fn a_seeder_is_not_told_of_seeders() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, true, &peer(1, 0, None));
        tracker.announce(now, SOURCE, true, &peer(2, 5, None));
        assert_eq!(
            ports(&tracker.announce(now, SOURCE, true, &peer(3, 0, None))),
            [1002]
        );
    }

    /// aria2 with a magnet link has nothing, and says that nothing is left.
    #[test]
    fn a_stranger_that_calls_itself_a_seeder_is_told_of_seeders() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, false, &peer(1, 0, None));
        let started = peer(2, 0, Some(AnnounceEvent::Started));
        let other = IpAddr::from([10, 0, 0, 8]);
        assert_eq!(
            ports(&tracker.announce(now, other, false, &started)),
            [1001]
        );
    }

    #[test]
    fn a_peer_that_stopped_or_fell_silent_is_handed_out_no_more() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, true, &peer(1, 5, None));
        tracker.announce(now, SOURCE, true, &peer(2, 5, None));
        tracker.announce(now, SOURCE, true, &peer(1, 5, Some(AnnounceEvent::Stopped)));
        let later = now + Duration::from_secs(10);
        assert_eq!(
            ports(&tracker.announce(later, SOURCE, true, &peer(3, 5, None))),
            [1002]
        );
        let much_later = later + Duration::from_secs(20);
        assert_eq!(
            ports(&tracker.announce(much_later, SOURCE, true, &peer(4, 5, None))),
            [0_u16; 0]
        );
    }

    #[test]
    fn the_address_a_stranger_names_does_not_count() {
        let (mut tracker, now) = tracker();
        let named = Some(IpAddr::from([1, 2, 3, 4]));
        tracker.announce(
            now,
            SOURCE,
            false,
            &AnnounceRequest {
                ip: named,
                ..peer(1, 5, None)
            },
        );
        let answer = tracker.announce(now, SOURCE, true, &peer(2, 5, None));
        assert_eq!(answer.peers, [SocketAddr::new(SOURCE, 1001)]);
    }

    #[test]
    fn a_stranger_does_not_speak_for_peers_elsewhere() {
        let (mut tracker, now) = tracker();
        let elsewhere = IpAddr::from([10, 0, 0, 66]);
        tracker.announce(now, SOURCE, true, &peer(1, 5, None));
        tracker.announce(now, SOURCE, false, &peer(2, 5, None));
        for number in [1, 2] {
            for event in [None, Some(AnnounceEvent::Stopped)] {
                tracker.announce(now, elsewhere, false, &peer(number, 0, event));
            }
        }
        let answer = tracker.announce(now, SOURCE, false, &peer(3, 5, None));
        assert!(answer.peers.iter().all(|peer| peer.ip() == SOURCE));
        assert_eq!(ports(&answer), [1001, 1002]);
        let at_home = peer(2, 5, Some(AnnounceEvent::Stopped));
        tracker.announce(now, SOURCE, false, &at_home);
        let answer = tracker.announce(now, SOURCE, false, &peer(3, 5, None));
        assert_eq!(ports(&answer), [1001]);
    }

    #[test]
    fn one_address_has_room_for_so_many_strangers() {
        let (mut tracker, now) = tracker();
        for number in 0..100 {
            tracker.announce(now, SOURCE, false, &peer(number, 5, None));
        }
        let elsewhere = IpAddr::from([10, 0, 0, 10]);
        let answer = tracker.announce(now, elsewhere, false, &peer(200, 5, None));
        assert_eq!(answer.incomplete, 65);
    }

    #[test]
    fn a_stranger_whose_program_announces_seldom_stays() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, false, &peer(1, 5, None));
        let later = now + Duration::from_secs(600);
        let answer = tracker.announce(later, SOURCE, false, &peer(2, 5, None));
        assert_eq!((ports(&answer), answer.interval), (vec![1001], 60));
        let much_later = later + Duration::from_secs(901);
        let answer = tracker.announce(much_later, SOURCE, false, &peer(3, 5, None));
        assert_eq!(ports(&answer), [0_u16; 0]);
    }

    #[test]
    fn a_first_announce_that_says_stopped_is_answered_and_not_remembered() {
        let (mut tracker, now) = tracker();
        let stopped = peer(1, 5, Some(AnnounceEvent::Stopped));
        let answer = tracker.announce(now, SOURCE, false, &stopped);
        assert_eq!((answer.peers.len(), answer.incomplete), (0, 0));
        let none = AnnounceRequest {
            numwant: Some(0),
            ..peer(2, 5, None)
        };
        tracker.announce(now, SOURCE, false, &peer(3, 0, None));
        assert_eq!(tracker.announce(now, SOURCE, false, &none).peers, []);
    }

    #[test]
    fn peers_and_their_names_are_in_the_same_order() {
        let (mut tracker, now) = tracker();
        for number in 0..20 {
            tracker.announce(now, SOURCE, true, &peer(number, 5, None));
        }
        let answer = tracker.hand_out(now, SOURCE, true, &peer(99, 5, None));
        let named = answer.peer_ids.iter().zip(&answer.response.peers);
        for (peer_id, address) in named {
            assert_eq!(1000 + u16::from(peer_id.as_bytes()[0]), address.port());
        }
        assert_eq!(answer.peer_ids.len(), 20);
    }

    #[test]
    fn numwant_is_kept_to_and_capped() {
        let (mut tracker, now) = tracker();
        for number in 0..250 {
            tracker.announce(now, SOURCE, true, &peer(number, 5, None));
        }
        let asks = |numwant| AnnounceRequest {
            numwant,
            ..peer(251, 5, None)
        };
        assert_eq!(
            tracker
                .announce(now, SOURCE, true, &asks(Some(3)))
                .peers
                .len(),
            3
        );
        assert_eq!(
            tracker
                .announce(now, SOURCE, true, &asks(Some(1000)))
                .peers
                .len(),
            200
        );
        assert_eq!(
            tracker.announce(now, SOURCE, true, &asks(None)).peers.len(),
            50
        );
    }

    #[test]
    fn a_completed_download_counts_after_its_peer_left() {
        let (mut tracker, now) = tracker();
        tracker.announce(now, SOURCE, true, &peer(1, 5, None));
        for event in [AnnounceEvent::Completed, AnnounceEvent::Stopped] {
            tracker.announce(now, SOURCE, true, &peer(1, 0, Some(event)));
        }
        let counted = tracker.scrape(now, SWARM).unwrap();
        assert_eq!(
            (counted.complete, counted.incomplete, counted.downloaded),
            (0, 0, 1)
        );
    }
}
