//! What the tracker answers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::bencode::{self, BencodeError, DictWriter};

/// Longest reply that is read: some thousand peers.
const MOST_BYTES: usize = 64 * 1024;
/// Longest failure reason that is kept, in characters.
const MOST_REASON: usize = 512;
/// BEP 23: address and port.
const COMPACT_V4: usize = 6;
/// BEP 7: address and port.
const COMPACT_V6: usize = 18;

/// A reply that cannot be read; the tracker's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceReplyError {
    /// Not strict bencode of the expected shape.
    #[error("announce reply: {0}")]
    Bencode(#[from] BencodeError),
    /// A compact peer list is cut short.
    #[error("announce reply with a peer list of {0} bytes")]
    Peers(usize),
    /// There is neither an interval nor a failure.
    #[error("announce reply without interval")]
    NoInterval,
}

/// A granted announce (BEP 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Least seconds between announces.
    pub min_interval: Option<u32>,
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Peers; on the wire those with IPv4 addresses come first.
    pub peers: Vec<SocketAddr>,
}

impl AnnounceResponse {
    /// The bencoded reply with compact peer lists (BEP 23, BEP 7).
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for peer in &self.peers {
            match peer {
                SocketAddr::V4(peer) => {
                    v4.extend_from_slice(&peer.ip().octets());
                    v4.extend_from_slice(&peer.port().to_be_bytes());
                }
                SocketAddr::V6(peer) => {
                    v6.extend_from_slice(&peer.ip().octets());
                    v6.extend_from_slice(&peer.port().to_be_bytes());
                }
            }
        }
        let mut dict = DictWriter::default();
        dict.integer("complete", self.complete)
            .integer("incomplete", self.incomplete)
            .integer("interval", self.interval)
            .string("peers", v4);
        if let Some(min_interval) = self.min_interval {
            dict.integer("min interval", min_interval);
        }
        if !v6.is_empty() {
            dict.string("peers6", v6);
        }
        dict.finish()
    }
}

/// A tracker's answer to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnounceReply {
    /// It is granted.
    Peers(AnnounceResponse),
    /// It is refused, for this reason (BEP 3 `failure reason`, with status 200).
    Failure(String),
}

impl AnnounceReply {
    /// The bencoded reply.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Peers(response) => response.to_bytes(),
            Self::Failure(reason) => {
                let mut dict = DictWriter::default();
                dict.string("failure reason", reason);
                dict.finish()
            }
        }
    }

    /// Reads a bencoded reply of at most 64 KiB with compact peer lists.
    ///
    /// # Errors
    /// Not such a reply.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnnounceReplyError> {
        let (wire, _): (Wire, _) = bencode::decode(bytes, MOST_BYTES)?;
        if let Some(reason) = wire.failure_reason {
            let reason = String::from_utf8_lossy(&reason)
                .chars()
                .take(MOST_REASON)
                .collect();
            return Ok(Self::Failure(reason));
        }
        let peers = wire.peers.unwrap_or_default();
        let peers6 = wire.peers6.unwrap_or_default();
        let (v4, rest) = peers.as_chunks::<COMPACT_V4>();
        if !rest.is_empty() {
            return Err(AnnounceReplyError::Peers(peers.len()));
        }
        let (v6, rest) = peers6.as_chunks::<COMPACT_V6>();
        if !rest.is_empty() {
            return Err(AnnounceReplyError::Peers(peers6.len()));
        }
        let v4 = v4.iter().map(|[a, b, c, d, port @ ..]| {
            SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes(*port)))
        });
        let v6 = v6.iter().filter_map(|peer| {
            let (ip, port) = peer.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(port.try_into().ok()?);
            Some(SocketAddr::from((Ipv6Addr::from(*ip), port)))
        });
        Ok(Self::Peers(AnnounceResponse {
            interval: wire.interval.ok_or(AnnounceReplyError::NoInterval)?,
            min_interval: wire.min_interval,
            complete: wire.complete.unwrap_or(0),
            incomplete: wire.incomplete.unwrap_or(0),
            peers: v4.chain(v6).collect(),
        }))
    }
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "failure reason")]
    failure_reason: Option<ByteBuf>,
    interval: Option<u32>,
    #[serde(rename = "min interval")]
    min_interval: Option<u32>,
    complete: Option<u32>,
    incomplete: Option<u32>,
    peers: Option<ByteBuf>,
    peers6: Option<ByteBuf>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_specs() {
        let reply = AnnounceReply::Peers(AnnounceResponse {
            interval: 5,
            min_interval: Some(1),
            complete: 1,
            incomplete: 2,
            peers: vec![
                "10.0.0.1:6881".parse().unwrap(),
                "[::1]:258".parse().unwrap(),
            ],
        });
        let expected = b"d8:completei1e10:incompletei2e8:intervali5e12:min intervali1e\
            5:peers6:\x0a\0\0\x01\x1a\xe16:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02e";
        assert_eq!(reply.to_bytes(), expected);
        assert_eq!(AnnounceReply::from_bytes(expected), Ok(reply));
    }

    #[test]
    fn a_failure_is_a_failure() {
        let bytes = b"d14:failure reason9:no ticket8:intervali5ee";
        let failure = AnnounceReply::Failure("no ticket".to_owned());
        assert_eq!(AnnounceReply::from_bytes(bytes), Ok(failure.clone()));
        assert_eq!(failure.to_bytes(), b"d14:failure reason9:no tickete");
    }

    #[test]
    fn peer_lists_cut_short_and_replies_without_interval_are_refused() {
        use AnnounceReplyError as E;
        let refused = |bytes: &[u8]| AnnounceReply::from_bytes(bytes).unwrap_err();
        assert_eq!(refused(b"d8:intervali5e5:peers5:abcdee"), E::Peers(5));
        assert_eq!(refused(b"d8:intervali5e6:peers65:abcdee"), E::Peers(5));
        assert_eq!(refused(b"de"), E::NoInterval);
        assert!(matches!(refused(b"d8:intervali-5ee"), E::Bencode(_)));
        assert!(matches!(
            refused(b"d8:intervali5e5:peersld2:ip1:aeee"),
            E::Bencode(_)
        ));
        assert!(matches!(
            refused(&vec![b'l'; MOST_BYTES + 1]),
            E::Bencode(_)
        ));
    }

    fn responses() -> impl Strategy<Value = AnnounceResponse> {
        let counts = (
            any::<u32>(),
            any::<Option<u32>>(),
            any::<u32>(),
            any::<u32>(),
        );
        let v4 = prop::collection::vec(any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from), 0..50);
        let v6 = prop::collection::vec(any::<(Ipv6Addr, u16)>().prop_map(SocketAddr::from), 0..50);
        (counts, v4, v6).prop_map(|(counts, v4, v6)| AnnounceResponse {
            interval: counts.0,
            min_interval: counts.1,
            complete: counts.2,
            incomplete: counts.3,
            peers: [v4, v6].concat(),
        })
    }

    proptest! {
        #[test]
        fn round_trip(response in responses(), reason in "\\PC{0,100}") {
            for reply in [AnnounceReply::Peers(response), AnnounceReply::Failure(reason)] {
                prop_assert_eq!(AnnounceReply::from_bytes(&reply.to_bytes()), Ok(reply));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes: Vec<u8>, response in responses(), at: prop::sample::Index, byte: u8
        ) {
            let _ = AnnounceReply::from_bytes(&bytes);
            let mut changed = response.to_bytes();
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = AnnounceReply::from_bytes(&changed);
        }
    }
}
