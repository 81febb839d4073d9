//! Which of many peers to connect to (BEP 40): both ends come to the same answer, so that the
//! connections of a swarm spread over it, whatever addresses are listed first.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The `room` of these peers that a host at `own` is to connect to, first things first. `own` gives
/// this host's address as a peer sees it, or none.
pub(crate) fn preferred(
    own: impl Fn(IpAddr) -> Option<SocketAddr>,
    mut peers: Vec<SocketAddr>,
    room: usize,
) -> Vec<SocketAddr> {
    if room == 0 {
        return Vec::new();
    }
    if peers.len() > room {
        peers.sort_by_cached_key(|peer| {
            let own = own(peer.ip());
            Reverse(own.and_then(|own| priority(own, *peer)))
        });
        peers.truncate(room);
    }
    peers
}

/// The address that datagrams to `remote` leave from, with the port of `listen`. Behind an address
/// translator it is not what others see; the order is then arbitrary, which does no harm.
pub(crate) fn own_address(listen: SocketAddr, remote: IpAddr) -> Option<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return Some(listen);
    }
    let any = match remote {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // Connecting a UDP socket sends nothing; it looks the route up.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((remote, listen.port())).ok()?;
    Some(SocketAddr::new(
        socket.local_addr().ok()?.ip(),
        listen.port(),
    ))
}

/// The greater the better; none between address families.
fn priority(one: SocketAddr, other: SocketAddr) -> Option<u32> {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    if one_ip == other_ip {
        return Some(of_pair(
            &one.port().to_be_bytes(),
            &other.port().to_be_bytes(),
        ));
    }
    match (one_ip, other_ip) {
        (IpAddr::V4(one), IpAddr::V4(other)) => Some(of_addresses(one.octets(), other.octets(), 2)),
        (IpAddr::V6(one), IpAddr::V6(other)) => Some(of_addresses(one.octets(), other.octets(), 6)),
        _ => None,
    }
}

/// Addresses count in full as far as they are equal and one byte further, `least` bytes at the least;
/// of the rest every other bit does.
fn of_addresses<const N: usize>(one: [u8; N], other: [u8; N], least: usize) -> u32 {
    let equal = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let whole = if equal < least { least } else { equal + 1 };
    let masked = |mut address: [u8; N]| {
        for byte in address.iter_mut().skip(whole) {
            *byte &= 0x55;
        }
        address
    };
    of_pair(&masked(one), &masked(other))
}

fn of_pair(one: &[u8], other: &[u8]) -> u32 {
    let (low, high) = if one < other {
        (one, other)
    } else {
        (other, one)
    };
    crc32c(low.iter().chain(high))
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: at most 32 bytes go in.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let crc = bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_the_bep_come_out() {
        let own = at("123.213.32.10:0");
        for (peer, expected) in [
            ("98.76.54.32:0", 0xec2d_7224),
            ("123.213.32.234:0", 0x9956_8189),
        ] {
            assert_eq!(priority(own, at(peer)), Some(expected));
            assert_eq!(priority(at(peer), own), Some(expected));
        }
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    }

    #[test]
    fn bytes_of_addresses_count_as_far_as_they_are_alike() {
        let same = |a: &str, b: &str, c: &str| priority(at(a), at(b)) == priority(at(a), at(c));
        // Another /16: half of the last two bytes counts; the same /16: half of the last one.
        assert!(same("1.2.3.4:1", "5.6.0.0:1", "5.6.2.8:1"));
        assert!(!same("1.2.3.4:1", "1.2.0.0:1", "1.2.2.0:1"));
        assert!(same("1.2.3.4:1", "1.2.0.0:1", "1.2.0.2:1"));
        assert!(!same("1.2.3.4:1", "1.2.3.5:1", "1.2.3.7:1"));
        assert!(same("[1::]:1", "[2::]:1", "[2:0:0:2::]:1"));
        assert!(!same("[1::]:1", "[2::]:1", "[2:0:2::]:1"));
        // One address: the ports alone.
        assert!(!same("1.2.3.4:1", "1.2.3.4:2", "1.2.3.4:3"));
        assert_eq!(priority(at("1.2.3.4:1"), at("[1::]:1")), None);
    }

    #[test]
    fn with_room_for_all_all_are_taken_as_they_come() {
        let peers: Vec<_> = (1..=9).map(|n| at(&format!("10.0.0.{n}:1"))).collect();
        let own = |_| Some(at("10.0.0.77:1"));
        assert_eq!(preferred(own, peers.clone(), 9), peers);
        let mut reversed = peers.clone();
        reversed.reverse();
        let few = preferred(own, peers, 4);
        assert_eq!(few.len(), 4);
        assert_eq!(preferred(own, reversed, 4), few);
    }
}
