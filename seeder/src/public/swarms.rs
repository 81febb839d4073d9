//! The swarms that the tracker lets strangers into.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_client::Engine;
use flotilla_cluster::unix_now;
use flotilla_cluster::{SignedTicket, TicketError, TicketKey};
use flotilla_torrents::InfoHash;
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_tracker::{Admission, Gate};
use parking_lot::Mutex;

use crate::stats::Statistics;

/// Torrents that members have registered; each takes about 100 bytes.
const MAX_REGISTERED: usize = 10_000;
/// A registered torrent without a seeder is forgotten after a day.
const REGISTRATION_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PublicSwarms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// Torrents of members, and when a seeder of each was last heard of.
    registered: Mutex<HashMap<InfoHash, Instant>>,
    /// Layers that this supernode gives to strangers: the swarm that each is in.
    layers: Mutex<HashMap<InfoHash, InfoHash>>,
}

impl PublicSwarms {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(Inner {
            engine,
            registered: Mutex::default(),
            layers: Mutex::default(),
        }))
    }

    /// Lets strangers into the swarm of a member's torrent. False: there are too many.
    pub(crate) fn register(&self, now: Instant, swarm: InfoHash) -> bool {
        let mut registered = self.lock_registered();
        if registered.len() >= MAX_REGISTERED && !registered.contains_key(&swarm) {
            registered.retain(|_, seen| now.saturating_duration_since(*seen) < REGISTRATION_TTL);
            if registered.len() >= MAX_REGISTERED {
                return false;
            }
        }
        registered.insert(swarm, now);
        true
    }

    /// Whether it was registered.
    pub(crate) fn unregister(&self, swarm: &InfoHash) -> bool {
        self.lock_registered().remove(swarm).is_some()
    }

    /// This supernode gives the layer in the swarm `inner` to strangers by the name `swarm`.
    pub(crate) fn seed(&self, swarm: InfoHash, inner: InfoHash) {
        let mut layers = self.0.layers.lock();
        layers.retain(|_, inner| self.0.engine.swarm(inner).is_some());
        layers.insert(swarm, inner);
    }

    /// Whether it is registered and alive. A seeder's announce keeps it so.
    fn is_registered(&self, now: Instant, swarm: &InfoHash, seeded: bool) -> bool {
        let mut registered = self.lock_registered();
        let Some(seen) = registered.get_mut(swarm) else {
            return false;
        };
        if now.saturating_duration_since(*seen) >= REGISTRATION_TTL {
            registered.remove(swarm);
            return false;
        }
        if seeded {
            *seen = now;
        }
        true
    }

    fn lock_registered(&self) -> parking_lot::MutexGuard<'_, HashMap<InfoHash, Instant>> {
        let registered = &self.0.registered;
        registered.lock()
    }
}

/// Who is let into swarms: members with tickets, and anybody into open ones.
pub(crate) struct SupernodeGate {
    pub(crate) ticket_key: TicketKey,
    pub(crate) open: PublicSwarms,
    pub(crate) statistics: Statistics,
}

impl Gate for SupernodeGate {
    /// Protected swarms admit who shows a ticket. A seeder takes nothing, so its ticket may have
    /// expired since it was let in.
    fn admit(&self, request: &AnnounceRequest) -> Admission {
        let (swarm, peer_id) = (request.info_hash, request.peer_id);
        let Some(ticket) = &request.ticket else {
            let seeds = request.left == 0 && !request.is_stopped();
            let is_open = self.is_seeded_here(&swarm)
                || self.open.is_registered(Instant::now(), &swarm, seeds);
            return if is_open {
                Admission::Open
            } else {
                Admission::Refused("this swarm is not open to strangers".to_owned())
            };
        };
        let ticket: SignedTicket = match ticket.parse() {
            Ok(ticket) => ticket,
            Err(error) => return Admission::Refused(format!("{error}")),
        };
        match self.ticket_key.verify(&ticket, unix_now(), swarm, peer_id) {
            Ok(_) => Admission::Member,
            Err(TicketError::Expired(_)) if request.left == 0 => Admission::Member,
            Err(error) => Admission::Refused(error.to_string()),
        }
    }

    fn heard(&self, source: IpAddr, request: &AnnounceRequest, report: Option<&[u8]>) {
        self.statistics.note_announce(source, request, report);
    }

    fn is_open(&self, swarm: &InfoHash) -> bool {
        self.is_seeded_here(swarm) || self.open.is_registered(Instant::now(), swarm, false)
    }

    fn is_seeded_here(&self, swarm: &InfoHash) -> bool {
        let inner = self.open.0.layers.lock().get(swarm).copied();
        inner.is_some_and(|inner| self.open.0.engine.swarm(&inner).is_some())
    }
}

#[cfg(test)]
mod tests {
    use flotilla_client::EngineConfig;
    use flotilla_cluster::{Ticket, TicketSigner};
    use flotilla_torrents::PeerId;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const SWARM: InfoHash = InfoHash::from_bytes([1; 20]);

    async fn swarms(dir: &tempfile::TempDir) -> PublicSwarms {
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            cache_quota: 1 << 20,
            upload_rate: None,
            download_rate: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        PublicSwarms::new(Engine::start(&config, listener, CancellationToken::new()).unwrap())
    }

    fn announce(left: u64, ticket: Option<String>) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: SWARM,
            peer_id: PeerId::from_bytes([2; 20]),
            port: 1,
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left,
            event: None,
            numwant: None,
            compact: true,
            no_peer_id: false,
            key: None,
            ticket,
        }
    }

    #[tokio::test]
    async fn a_seeder_stays_when_its_ticket_expires_and_a_leecher_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (signer, _) = TicketSigner::generate().unwrap();
        let gate = SupernodeGate {
            ticket_key: signer.public_key(),
            open: swarms(&dir).await,
            statistics: Statistics::new(Instant::now(), PeerId::from_bytes([9; 20])),
        };
        let ticket = |expires| {
            let peer_id = PeerId::from_bytes([2; 20]);
            let ticket = Ticket {
                swarm: SWARM,
                peer_id,
                expires,
            };
            Some(signer.sign(&ticket).to_string())
        };
        assert_eq!(
            gate.admit(&announce(5, ticket(u64::MAX))),
            Admission::Member
        );
        assert_eq!(gate.admit(&announce(0, ticket(1))), Admission::Member);
        for refused in [announce(5, ticket(1)), announce(5, None), announce(0, None)] {
            assert!(matches!(gate.admit(&refused), Admission::Refused(_)));
        }
    }

    #[tokio::test]
    async fn a_registered_torrent_is_open_for_a_day_after_its_last_seeder() {
        let dir = tempfile::tempdir().unwrap();
        let open = swarms(&dir).await;
        let now = Instant::now();
        assert!(!open.is_registered(now, &SWARM, true));
        assert!(open.register(now, SWARM) && open.register(now, SWARM));
        let later = now + REGISTRATION_TTL - Duration::from_secs(1);
        assert!(open.is_registered(later, &SWARM, true));
        let next_day = later + REGISTRATION_TTL - Duration::from_secs(1);
        assert!(open.is_registered(next_day, &SWARM, false));
        assert!(!open.is_registered(later + REGISTRATION_TTL, &SWARM, true));
        open.register(now, SWARM);
        assert!(open.unregister(&SWARM) && !open.unregister(&SWARM));
        assert!(!open.is_registered(now, &SWARM, false));
    }

    #[tokio::test]
    async fn so_many_torrents_are_registered_and_dead_ones_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let open = swarms(&dir).await;
        let now = Instant::now();
        let name = |number: usize| {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            InfoHash::from_bytes(bytes)
        };
        for number in 0..MAX_REGISTERED {
            assert!(open.register(now, name(number)));
        }
        assert!(!open.register(now, name(MAX_REGISTERED)));
        assert!(open.register(now, name(0)));
        assert!(open.register(now + REGISTRATION_TTL, name(MAX_REGISTERED)));
    }
}
