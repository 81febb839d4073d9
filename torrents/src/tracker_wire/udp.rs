//! The messages between peers and a UDP tracker (BEP 15). Integers are in network byte order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
use crate::{InfoHash, PeerId, compact_peers};

/// Longest datagram that is read. Other trackers send some hundred peers in fragments.
pub const MAX_DATAGRAM_BYTES: usize = 8 * 1024;
/// Longest reply that is written: one Ethernet frame's worth over IPv6, so that none is fragmented.
const MAX_REPLY_BYTES: usize = 1452;
/// Most swarms of one scrape.
pub const MAX_SCRAPED: usize = 74;
/// BEP 15: what a connect request has in place of a connection id.
const PROTOCOL: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;
/// Longest error message that is kept or sent, in characters.
const MAX_MESSAGE: usize = 512;
const COUNTS_BYTES: usize = 12;

/// A datagram that is no message of this protocol; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UdpMessageError {
    /// More bytes than any message has.
    #[error("datagram of {0} bytes, expected at most {MAX_DATAGRAM_BYTES}")]
    TooLong(usize),
    /// It ends inside a message.
    #[error("datagram of {0} bytes ends inside a message")]
    Truncated(usize),
    /// No action of the protocol.
    #[error("action {0}, expected 0 to 3")]
    Action(u32),
    /// A connect request without the protocol's number.
    #[error("connect request of another protocol")]
    Protocol,
    /// An event that the protocol does not have.
    #[error("event {0}, expected 0 to 3")]
    Event(u32),
    /// A list that is cut short, empty or too long.
    #[error("list of {0} bytes that is no whole number of entries within the cap")]
    List(usize),
}

/// What a tracker gave a peer to show that the peer's address is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// What joins a reply to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u32);

/// The length of a peer in an announce reply: that of the address family it travels over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// Six bytes.
    V4,
    /// 18 bytes.
    V6,
}

impl AddressFamily {
    /// The family of `address`, an IPv4 address in its IPv6 form taken for what it is.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn peer_bytes(self) -> usize {
        match self {
            Self::V4 => compact_peers::V4,
            Self::V6 => compact_peers::V6,
        }
    }

    /// Peers that fit into one reply.
    pub const fn most_peers(self) -> usize {
        (MAX_REPLY_BYTES - 20) / self.peer_bytes()
    }
}

/// What a peer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpRequest {
    /// For a connection id.
    Connect(TransactionId),
    /// To take part. Of the request, `compact`, `no_peer_id` and `ticket` do not travel, `ip` only
    /// as IPv4 address, and `key` as the number that its hexadecimal digits name.
    Announce(ConnectionId, TransactionId, Box<AnnounceRequest>),
    /// For the counts of swarms.
    Scrape(ConnectionId, TransactionId, Vec<InfoHash>),
}

impl UdpRequest {
    /// The datagram.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(98);
        let mut head = |connection: u64, action: u32, transaction: TransactionId| {
            out.extend_from_slice(&connection.to_be_bytes());
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Self::Connect(transaction) => head(PROTOCOL, CONNECT, *transaction),
            Self::Announce(connection, transaction, announce) => {
                head(connection.0, ANNOUNCE, *transaction);
                put_announce(&mut out, announce);
            }
            Self::Scrape(connection, transaction, swarms) => {
                head(connection.0, SCRAPE, *transaction);
                for swarm in swarms.iter().take(MAX_SCRAPED) {
                    out.extend_from_slice(swarm.as_bytes());
                }
            }
        }
        out
    }

    /// Reads a datagram. What follows an announce (the options of BEP 41) is passed over.
    ///
    /// # Errors
    /// It is no request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UdpMessageError> {
        let mut reader = Reader::new(bytes)?;
        let connection = ConnectionId(reader.u64()?);
        let action = reader.u32()?;
        let transaction = TransactionId(reader.u32()?);
        match action {
            CONNECT if connection.0 == PROTOCOL => Ok(Self::Connect(transaction)),
            CONNECT => Err(UdpMessageError::Protocol),
            ANNOUNCE => {
                let announce = Box::new(reader.announce()?);
                Ok(Self::Announce(connection, transaction, announce))
            }
            SCRAPE => {
                let (hashes, rest) = reader.rest.as_chunks::<20>();
                if hashes.is_empty() || !rest.is_empty() || hashes.len() > MAX_SCRAPED {
                    return Err(UdpMessageError::List(reader.rest.len()));
                }
                let hashes = hashes.iter().copied().map(InfoHash::from_bytes).collect();
                Ok(Self::Scrape(connection, transaction, hashes))
            }
            other => Err(UdpMessageError::Action(other)),
        }
    }
}

fn put_announce(out: &mut Vec<u8>, announce: &AnnounceRequest) {
    out.extend_from_slice(announce.info_hash.as_bytes());
    out.extend_from_slice(announce.peer_id.as_bytes());
    for count in [announce.downloaded, announce.left, announce.uploaded] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    let event: u32 = match announce.event {
        None => 0,
        Some(AnnounceEvent::Completed) => 1,
        Some(AnnounceEvent::Started) => 2,
        Some(AnnounceEvent::Stopped) => 3,
    };
    out.extend_from_slice(&event.to_be_bytes());
    let ip = match announce.ip {
        Some(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    out.extend_from_slice(&ip.octets());
    let key = announce.key.as_deref().unwrap_or_default();
    let key = u32::from_str_radix(key, 16).unwrap_or(0);
    out.extend_from_slice(&key.to_be_bytes());
    let numwant = match announce.numwant {
        Some(numwant) => i32::try_from(numwant).unwrap_or(i32::MAX),
        None => -1,
    };
    out.extend_from_slice(&numwant.to_be_bytes());
    out.extend_from_slice(&announce.port.to_be_bytes());
}

/// The counts of one swarm, in the order that the scrape named them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpScrapeCounts {
    /// Seeders.
    pub seeders: u32,
    /// Peers that ever announced `completed`.
    pub completed: u32,
    /// Leechers.
    pub leechers: u32,
}

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    /// A connection id, good for a minute.
    Connect(TransactionId, ConnectionId),
    /// A granted announce; there is no `min interval` here.
    Announce(TransactionId, AnnounceResponse),
    /// The counts.
    Scrape(TransactionId, Vec<UdpScrapeCounts>),
    /// A refusal, for this reason.
    Error(TransactionId, String),
}

impl UdpReply {
    /// The request that it answers.
    pub fn transaction(&self) -> TransactionId {
        match self {
            Self::Connect(transaction, _)
            | Self::Announce(transaction, _)
            | Self::Scrape(transaction, _)
            | Self::Error(transaction, _) => *transaction,
        }
    }

    /// The datagram. Of the peers, those of `family` travel, as many as fit.
    pub fn to_bytes(&self, family: AddressFamily) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        let mut head = |action: u32, transaction: TransactionId| {
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Self::Connect(transaction, connection) => {
                head(CONNECT, *transaction);
                out.extend_from_slice(&connection.0.to_be_bytes());
            }
            Self::Announce(transaction, response) => {
                head(ANNOUNCE, *transaction);
                for count in [response.interval, response.incomplete, response.complete] {
                    out.extend_from_slice(&count.to_be_bytes());
                }
                put_peers(&mut out, &response.peers, family);
            }
            Self::Scrape(transaction, counts) => {
                head(SCRAPE, *transaction);
                for counts in counts.iter().take(MAX_SCRAPED) {
                    for count in [counts.seeders, counts.completed, counts.leechers] {
                        out.extend_from_slice(&count.to_be_bytes());
                    }
                }
            }
            Self::Error(transaction, message) => {
                head(ERROR, *transaction);
                out.extend(
                    message
                        .chars()
                        .take(MAX_MESSAGE)
                        .collect::<String>()
                        .bytes(),
                );
                out.truncate(MAX_REPLY_BYTES);
            }
        }
        out
    }

    /// Reads a datagram that came over `family`.
    ///
    /// # Errors
    /// It is no reply.
    pub fn from_bytes(bytes: &[u8], family: AddressFamily) -> Result<Self, UdpMessageError> {
        let mut reader = Reader::new(bytes)?;
        let action = reader.u32()?;
        let transaction = TransactionId(reader.u32()?);
        match action {
            CONNECT => Ok(Self::Connect(transaction, ConnectionId(reader.u64()?))),
            ANNOUNCE => {
                let (interval, incomplete, complete) =
                    (reader.u32()?, reader.u32()?, reader.u32()?);
                let peers = reader.peers(family)?;
                let response = AnnounceResponse {
                    interval,
                    min_interval: None,
                    complete,
                    incomplete,
                    peers,
                };
                Ok(Self::Announce(transaction, response))
            }
            SCRAPE => {
                let entries = reader.rest.len() / COUNTS_BYTES;
                if !reader.rest.len().is_multiple_of(COUNTS_BYTES) || entries > MAX_SCRAPED {
                    return Err(UdpMessageError::List(reader.rest.len()));
                }
                let counts = (0..entries).map(|_| reader.counts());
                Ok(Self::Scrape(transaction, counts.collect::<Result<_, _>>()?))
            }
            ERROR => {
                let message = String::from_utf8_lossy(reader.rest);
                let message = message.chars().take(MAX_MESSAGE).collect();
                Ok(Self::Error(transaction, message))
            }
            other => Err(UdpMessageError::Action(other)),
        }
    }
}

fn put_peers(out: &mut Vec<u8>, peers: &[SocketAddr], family: AddressFamily) {
    let of_family = peers
        .iter()
        .filter(|peer| AddressFamily::of(peer.ip()) == family);
    for peer in of_family.take(family.most_peers()) {
        let canonical = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        compact_peers::put(out, canonical);
    }
}

/// What is left of a datagram.
struct Reader<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, UdpMessageError> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(UdpMessageError::TooLong(bytes.len()));
        }
        Ok(Self {
            rest: bytes,
            whole: bytes.len(),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], UdpMessageError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(UdpMessageError::Truncated(self.whole))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, UdpMessageError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, UdpMessageError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, UdpMessageError> {
        self.take().map(u64::from_be_bytes)
    }

    fn announce(&mut self) -> Result<AnnounceRequest, UdpMessageError> {
        let info_hash = InfoHash::from_bytes(self.take()?);
        let peer_id = PeerId::from_bytes(self.take()?);
        let (downloaded, left, uploaded) = (self.u64()?, self.u64()?, self.u64()?);
        let event = match self.u32()? {
            0 => None,
            1 => Some(AnnounceEvent::Completed),
            2 => Some(AnnounceEvent::Started),
            3 => Some(AnnounceEvent::Stopped),
            other => return Err(UdpMessageError::Event(other)),
        };
        let ip = Ipv4Addr::from(self.take::<4>()?);
        let key = self.u32()?;
        let numwant = i32::from_be_bytes(self.take()?);
        Ok(AnnounceRequest {
            info_hash,
            peer_id,
            port: self.u16()?,
            ip: (!ip.is_unspecified()).then_some(IpAddr::V4(ip)),
            uploaded,
            downloaded,
            left,
            event,
            // BEP 15: -1 stands for the tracker's choice.
            numwant: u32::try_from(numwant).ok(),
            compact: true,
            no_peer_id: true,
            key: (key != 0).then(|| format!("{key:08x}")),
            ticket: None,
        })
    }

    fn peers(&self, family: AddressFamily) -> Result<Vec<SocketAddr>, UdpMessageError> {
        let size = family.peer_bytes();
        if !self.rest.len().is_multiple_of(size) {
            return Err(UdpMessageError::List(self.rest.len()));
        }
        Ok(match family {
            AddressFamily::V4 => compact_peers::v4(self.rest).collect(),
            AddressFamily::V6 => compact_peers::v6(self.rest).collect(),
        })
    }

    fn counts(&mut self) -> Result<UdpScrapeCounts, UdpMessageError> {
        Ok(UdpScrapeCounts {
            seeders: self.u32()?,
            completed: self.u32()?,
            leechers: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests;
