//! What the tracker answers.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_bencode::value::Value;
use serde_bytes::ByteBuf;

use crate::bencode::{self, BencodeError, DictWriter};
use crate::{PeerId, compact_peers};

/// Longest reply that is read: some thousand peers.
const MAX_BYTES: usize = 64 * 1024;
/// Longest failure reason that is kept, in characters.
const MAX_REASON: usize = 512;

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
    /// An entry of a list that is not compact is no peer.
    #[error("announce reply with a peer without ip and port")]
    Peer,
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
        let (v4, v6) = compact_peers::lists(self.peers.iter().copied());
        let mut dict = self.counts();
        dict.string("peers", v4);
        if !v6.is_empty() {
            dict.string("peers6", v6);
        }
        dict.finish()
    }

    /// The bencoded reply with a list of dictionaries (BEP 3). `peer_ids`: those of the peers in
    /// their order, or none of them.
    pub fn to_bytes_in_full(&self, peer_ids: &[PeerId]) -> Vec<u8> {
        let mut peer_ids = peer_ids.iter();
        let peers = self.peers.iter().map(|peer| {
            let mut dict = DictWriter::default();
            dict.string("ip", peer.ip().to_string())
                .integer("port", peer.port());
            if let Some(peer_id) = peer_ids.next() {
                dict.string("peer id", peer_id.as_bytes());
            }
            dict.finish()
        });
        let peers = bencode::list(peers);
        let mut dict = self.counts();
        dict.raw(b"peers", peers);
        dict.finish()
    }

    fn counts(&self) -> DictWriter {
        let mut dict = DictWriter::default();
        dict.integer("complete", self.complete)
            .integer("incomplete", self.incomplete)
            .integer("interval", self.interval);
        if let Some(min_interval) = self.min_interval {
            dict.integer("min interval", min_interval);
        }
        dict
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

    /// Reads a bencoded reply of at most 64 KiB, with compact peer lists or a list of dictionaries.
    /// Peers that such a list has by name are left out: names of others' choice are not resolved here.
    ///
    /// # Errors
    /// Not such a reply.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnnounceReplyError> {
        let (wire, _): (Wire, _) = bencode::decode(bytes, MAX_BYTES)?;
        if let Some(reason) = wire.failure_reason {
            let reason = String::from_utf8_lossy(&reason)
                .chars()
                .take(MAX_REASON)
                .collect();
            return Ok(Self::Failure(reason));
        }
        let mut peers = match wire.peers {
            None => Vec::new(),
            Some(Value::Bytes(list)) => {
                compact_peers::v4(whole(&list, compact_peers::V4)?).collect()
            }
            Some(Value::List(full)) => in_full(&full)?,
            Some(Value::Int(_) | Value::Dict(_)) => return Err(AnnounceReplyError::Peer),
        };
        let peers6 = wire.peers6.unwrap_or_default();
        peers.extend(compact_peers::v6(whole(&peers6, compact_peers::V6)?));
        Ok(Self::Peers(AnnounceResponse {
            interval: wire.interval.ok_or(AnnounceReplyError::NoInterval)?,
            min_interval: wire.min_interval,
            complete: wire.complete.unwrap_or(0),
            incomplete: wire.incomplete.unwrap_or(0),
            peers,
        }))
    }
}

/// The list, if it is not cut short.
fn whole(list: &[u8], peer: usize) -> Result<&[u8], AnnounceReplyError> {
    if list.len().is_multiple_of(peer) {
        Ok(list)
    } else {
        Err(AnnounceReplyError::Peers(list.len()))
    }
}

fn in_full(peers: &[Value]) -> Result<Vec<SocketAddr>, AnnounceReplyError> {
    let mut addresses = Vec::new();
    for peer in peers {
        let Value::Dict(peer) = peer else {
            return Err(AnnounceReplyError::Peer);
        };
        let (Some(Value::Bytes(ip)), Some(Value::Int(port))) =
            (peer.get(b"ip".as_slice()), peer.get(b"port".as_slice()))
        else {
            return Err(AnnounceReplyError::Peer);
        };
        let port = u16::try_from(*port).map_err(|_| AnnounceReplyError::Peer)?;
        let ip = std::str::from_utf8(ip).map_err(|_| AnnounceReplyError::Peer)?;
        if let Ok(ip) = ip.parse::<IpAddr>() {
            addresses.push(SocketAddr::new(ip, port));
        }
    }
    Ok(addresses)
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
    peers: Option<Value>,
    peers6: Option<ByteBuf>,
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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
        for peers in ["i1e", "de", "li1ee", "ld2:ip7:1.2.3.4ee", "ld4:porti1eee"] {
            let reply = format!("d8:intervali5e5:peers{peers}e");
            assert_eq!(refused(reply.as_bytes()), E::Peer, "{peers}");
        }
        let far = b"d8:intervali5e5:peersld2:ip7:1.2.3.44:porti65536eeee";
        assert_eq!(refused(far), E::Peer);
        assert!(matches!(refused(&vec![b'l'; MAX_BYTES + 1]), E::Bencode(_)));
    }

    #[test]
    fn a_list_of_dictionaries_is_read_without_names() {
        let bytes = b"d8:intervali5e5:peersl\
            d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
            d2:ip9:localhost4:porti1ee\
            d2:ip3:::14:porti258eeee";
        let Ok(AnnounceReply::Peers(response)) = AnnounceReply::from_bytes(bytes) else {
            panic!("no response");
        };
        let expected = ["10.0.0.1:6881", "[::1]:258"].map(|peer| peer.parse().unwrap());
        assert_eq!(response.peers, expected);
        let ids = [PeerId::from_bytes([b'a'; 20])];
        let written = response.to_bytes_in_full(&ids);
        assert!(
            written
                .windows(27)
                .any(|part| part == b"7:peer id20:aaaaaaaaaaaaaaa")
        );
        assert_eq!(
            AnnounceReply::from_bytes(&written),
            Ok(AnnounceReply::Peers(response))
        );
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
            prop_assert_eq!(
                AnnounceReply::from_bytes(&response.to_bytes_in_full(&[])),
                Ok(AnnounceReply::Peers(response.clone()))
            );
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
