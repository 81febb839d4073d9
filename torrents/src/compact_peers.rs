//! Peers as trackers and other peers list them: address and port, nothing between (BEP 23; BEP 7 for
//! IPv6).

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use librqbit_core::compact_ip::CompactSerialize;

/// Bytes of a peer with an IPv4 address.
pub(crate) const V4: usize = 6;
/// Bytes of a peer with an IPv6 address.
pub(crate) const V6: usize = 18;

/// The peers of an IPv4 list; a torn one at its end is passed over.
pub(crate) fn v4(list: &[u8]) -> impl Iterator<Item = SocketAddr> {
    peers::<SocketAddrV4>(list, V4)
}

/// The peers of an IPv6 list; a torn one at its end is passed over.
pub(crate) fn v6(list: &[u8]) -> impl Iterator<Item = SocketAddr> {
    peers::<SocketAddrV6>(list, V6)
}

/// Adds a peer to the list of its family.
pub(crate) fn put(list: &mut Vec<u8>, peer: SocketAddr) {
    list.extend_from_slice(CompactSerialize::as_slice(&peer).as_ref());
}

/// The lists of both families.
pub(crate) fn lists(peers: impl IntoIterator<Item = SocketAddr>) -> (Vec<u8>, Vec<u8>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        put(if peer.is_ipv4() { &mut v4 } else { &mut v6 }, peer);
    }
    (v4, v6)
}

fn peers<T>(list: &[u8], length: usize) -> impl Iterator<Item = SocketAddr>
where
    T: CompactSerialize + Into<SocketAddr>,
{
    list.chunks_exact(length)
        .filter_map(T::from_slice)
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_ports_are_in_network_order() {
        let peers = ["10.1.2.3:258", "[2001:db8::1]:65535"].map(|peer| peer.parse().unwrap());
        let (of_v4, of_v6) = lists(peers);
        assert_eq!(of_v4, [10, 1, 2, 3, 1, 2]);
        let expected = [&[0x20, 0x01, 0x0d, 0xb8], &[0; 11][..], &[1, 255, 255]].concat();
        assert_eq!(of_v6, expected);
    }

    proptest! {
        #[test]
        fn lists_round_trip(peers: Vec<(std::net::IpAddr, u16)>) {
            let peers: Vec<SocketAddr> = peers.into_iter().map(SocketAddr::from).collect();
            let (of_v4, of_v6) = lists(peers.iter().copied());
            let (first, second): (Vec<_>, Vec<_>) =
                peers.into_iter().partition(SocketAddr::is_ipv4);
            prop_assert_eq!(v4(&of_v4).collect::<Vec<_>>(), first);
            prop_assert_eq!(v6(&of_v6).collect::<Vec<_>>(), second);
        }

        #[test]
        fn any_bytes_are_whole_peers_and_a_torn_one(list: Vec<u8>) {
            prop_assert_eq!(v4(&list).count(), list.len() / V4);
            prop_assert_eq!(v6(&list).count(), list.len() / V6);
        }
    }
}
