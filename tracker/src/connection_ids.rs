//! Connection ids of the UDP tracker (BEP 15) that need no memory: a keyed hash of the peer's
//! address and the time.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use flotilla_torrents::tracker_wire::ConnectionId;
use ring::hmac;

/// An id names the minute it was made in.
const WINDOW: Duration = Duration::from_secs(60);
/// BEP 15: an id is accepted for two minutes; those of this and the two windows before are.
const WINDOWS: u64 = 3;

/// Makes and checks connection ids. Those of an earlier run are worth nothing.
pub(crate) struct ConnectionIds {
    key: hmac::Key,
    since: Instant,
}

impl ConnectionIds {
    /// `secret`: random, this tracker's own.
    pub(crate) fn new(secret: &[u8; 32], now: Instant) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            since: now,
        }
    }

    pub(crate) fn issue(&self, now: Instant, ip: IpAddr) -> ConnectionId {
        self.id(self.window(now), ip)
    }

    pub(crate) fn accepts(&self, now: Instant, ip: IpAddr, id: ConnectionId) -> bool {
        let window = self.window(now);
        let oldest = window.saturating_sub(WINDOWS - 1);
        // An id is guessed in 2^64 datagrams, whatever the time that a comparison takes.
        (oldest..=window).any(|window| self.id(window, ip) == id)
    }

    fn window(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs()
    }

    fn id(&self, window: u64, ip: IpAddr) -> ConnectionId {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&window.to_be_bytes());
        match ip.to_canonical() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        let tag = context.sign();
        let first = tag.as_ref().first_chunk::<8>().copied();
        ConnectionId(u64::from_be_bytes(first.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn an_id_is_good_for_two_minutes_and_not_for_long_after() {
        let start = Instant::now();
        let ids = ConnectionIds::new(&[1; 32], start);
        for issued in [0_u64, 59, 60, 119] {
            let at = |seconds| start + Duration::from_secs(issued + seconds);
            let id = ids.issue(at(0), PEER);
            for seconds in [0, 60, 120] {
                assert!(ids.accepts(at(seconds), PEER, id), "{issued} + {seconds}");
            }
            assert!(!ids.accepts(at(180), PEER, id), "{issued}");
        }
    }

    #[test]
    fn an_id_is_good_for_its_address_and_its_tracker() {
        let now = Instant::now();
        let ids = ConnectionIds::new(&[1; 32], now);
        let id = ids.issue(now, PEER);
        assert!(ids.accepts(now, "::ffff:10.0.0.1".parse().unwrap(), id));
        assert!(!ids.accepts(now, "10.0.0.2".parse().unwrap(), id));
        assert!(!ids.accepts(now, PEER, ConnectionId(id.0 ^ 1)));
        assert!(!ConnectionIds::new(&[2; 32], now).accepts(now, PEER, id));
    }
}
