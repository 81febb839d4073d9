//! Peers that tell each other of further peers (BEP 11 `ut_pex`).

use std::net::SocketAddr;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::bencode::{self, BencodeError, DictWriter};
use crate::compact_peers::{lists, v4, v6};

/// Longest message that is read: 50 peers of each kind need less than 3 KiB.
const MAX_BYTES: usize = 16 * 1024;

/// A message that cannot be read: pass it over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer exchange: {0}")]
#[non_exhaustive]
pub struct PeerExchangeError(#[from] BencodeError);

/// The payload of a `ut_pex` message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerExchange {
    /// Peers that the sender has met since its last message, with their flags.
    pub added: Vec<(SocketAddr, u8)>,
    /// Peers that it has lost since.
    pub dropped: Vec<SocketAddr>,
}

impl PeerExchange {
    /// The extension's name in the extended handshake.
    pub const NAME: &str = "ut_pex";
    /// Most peers in each list of one message; what a message has beyond that is passed over.
    pub const MAX_PEERS: usize = 50;
    /// Flag of a peer that only uploads.
    pub const SEED: u8 = 0x02;
    /// Flag of a peer that was reached by dialling it.
    pub const REACHABLE: u8 = 0x10;

    /// The payload of the message; at most [`Self::MAX_PEERS`] of each kind.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut flags, mut flags6) = (Vec::new(), Vec::new());
        for (address, flag) in self.added.iter().take(Self::MAX_PEERS) {
            if address.is_ipv4() {
                flags.push(*flag);
            } else {
                flags6.push(*flag);
            }
        }
        let added = self.added.iter().map(|(address, _)| *address);
        let (added, added6) = lists(added.take(Self::MAX_PEERS));
        let dropped = self.dropped.iter().copied();
        let (dropped, dropped6) = lists(dropped.take(Self::MAX_PEERS));
        let mut dict = DictWriter::default();
        dict.string("added", added)
            .string("added.f", flags)
            .string("added6", added6)
            .string("added6.f", flags6)
            .string("dropped", dropped)
            .string("dropped6", dropped6);
        dict.finish()
    }

    /// Reads the payload of the message. Peers without flags have none set; those with port 0
    /// are left out, and so is a torn address at the end of a list.
    ///
    /// # Errors
    /// Not such a message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerExchangeError> {
        let (wire, _): (Wire, _) = bencode::decode(bytes, MAX_BYTES)?;
        let added = v4(&wire.added).zip(with_default(&wire.added_f));
        let added6 = v6(&wire.added6).zip(with_default(&wire.added6_f));
        let added = added.chain(added6);
        let dropped = v4(&wire.dropped).chain(v6(&wire.dropped6));
        Ok(Self {
            added: added
                .filter(|(address, _)| address.port() != 0)
                .take(Self::MAX_PEERS)
                .collect(),
            dropped: dropped.take(Self::MAX_PEERS).collect(),
        })
    }
}

fn with_default(flags: &[u8]) -> impl Iterator<Item = u8> {
    flags.iter().copied().chain(std::iter::repeat(0))
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    added: ByteBuf,
    #[serde(default, rename = "added.f")]
    added_f: ByteBuf,
    #[serde(default)]
    added6: ByteBuf,
    #[serde(default, rename = "added6.f")]
    added6_f: ByteBuf,
    #[serde(default)]
    dropped: ByteBuf,
    #[serde(default)]
    dropped6: ByteBuf,
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_of_another_client_is_read() {
        let bytes = b"d5:added6:\x0a\x00\x00\x01\x1a\xe17:added.f1:\x0ae";
        let expected = PeerExchange {
            added: vec![("10.0.0.1:6881".parse().unwrap(), 0x0a)],
            dropped: Vec::new(),
        };
        assert_eq!(PeerExchange::from_bytes(bytes), Ok(expected));
    }

    #[test]
    fn peers_beyond_the_cap_without_port_or_torn_are_left_out() {
        let mut added = vec![10, 0, 0, 1, 0, 0];
        for _ in 0..60 {
            added.extend_from_slice(&[10, 0, 0, 1, 0, 1]);
        }
        added.push(10);
        let mut dict = DictWriter::default();
        let read = PeerExchange::from_bytes(&dict.string("added", added).finish()).unwrap();
        assert_eq!(read.added.len(), PeerExchange::MAX_PEERS);
        assert!(
            read.added
                .iter()
                .all(|(address, flags)| address.port() == 1 && *flags == 0)
        );
    }

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), 1_u16..).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn round_trip(
            mut added in prop::collection::vec((addresses(), any::<u8>()), 0..50),
            mut dropped in prop::collection::vec(addresses(), 0..50),
        ) {
            // The two kinds travel in lists of their own.
            added.sort_by_key(|(address, _)| address.is_ipv6());
            dropped.sort_by_key(SocketAddr::is_ipv6);
            let message = PeerExchange { added, dropped };
            let read = PeerExchange::from_bytes(&message.to_bytes());
            prop_assert_eq!(read, Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = PeerExchange::from_bytes(&bytes);
        }
    }
}
