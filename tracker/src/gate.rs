//! Who may take part in which swarm, and which swarms the tracker's own host seeds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{InfoHash, PeerId};

/// Whether a peer may take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Anybody may, in a swarm that is open to strangers.
    Open,
    /// It has shown a ticket.
    Member,
    /// It may not; the reason goes into the answer.
    Refused(String),
}

/// Decides for a tracker. Called on reactor threads: the answers are at hand.
pub trait Gate: Send + Sync {
    /// Whether the peer may take part.
    fn admit(&self, request: &AnnounceRequest) -> Admission;

    /// A member has announced itself from `source`; `report` is what it says of itself, if it does.
    fn heard(&self, source: IpAddr, request: &AnnounceRequest, report: Option<&[u8]>) {
        let _ = (source, request, report);
    }

    /// Whether strangers may hear of the swarm.
    fn is_open(&self, swarm: &InfoHash) -> bool;

    /// Whether this host seeds the swarm to strangers.
    fn is_seeded_here(&self, swarm: &InfoHash) -> bool;
}

/// The seeder on the tracker's own host.
#[derive(Clone, Copy, Debug)]
pub struct LocalSeeder {
    /// Its name on the wire.
    pub peer_id: PeerId,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl LocalSeeder {
    /// Where a peer at `remote` reaches it. A host that listens on all of its addresses has for each
    /// peer the one that its answers leave from.
    pub(crate) fn address_for(&self, remote: IpAddr) -> Option<SocketAddr> {
        let ip = self.listen.ip();
        if !ip.is_unspecified() {
            return Some(self.listen);
        }
        let any = match remote {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // Connecting a UDP socket sends nothing; it looks the route up.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((remote, self.listen.port())).ok()?;
        let local = socket.local_addr().ok()?;
        Some(SocketAddr::new(local.ip(), self.listen.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeder_on_all_addresses_is_named_by_the_one_that_the_peer_reaches() {
        let on = |listen: &str| LocalSeeder {
            peer_id: PeerId::from_bytes([1; 20]),
            listen: listen.parse().unwrap(),
        };
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let named = |listen: &str| on(listen).address_for(remote).unwrap().to_string();
        assert_eq!(named("0.0.0.0:9001"), "127.0.0.1:9001");
        assert_eq!(named("[::]:9001"), "127.0.0.1:9001");
        assert_eq!(named("10.0.0.1:9001"), "10.0.0.1:9001");
    }
}
