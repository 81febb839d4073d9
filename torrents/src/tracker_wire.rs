//! Announce and scrape over HTTP: BEP 3, 7 (IPv6), 23 (compact peers), 48 (scrape).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::bencode::{self, BencodeError};
use crate::{InfoHash, PeerId};

/// Bytes of the longest query that is read: a ticket and fifty info hashes fit.
const LONGEST_QUERY: usize = 8 * 1024;
/// Bytes of the largest reply that is read.
const LARGEST_REPLY: usize = 256 * 1024;
/// BEP 48 leaves the number open; BEP 15 fits 74 into a packet.
const MOST_SCRAPED: usize = 74;

/// A query or a reply is not what the BEPs say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerWireError {
    /// Too many bytes to look at.
    #[error("query of {found} bytes, at most {LONGEST_QUERY} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// A key that has to be there is not.
    #[error("query without {0}")]
    Missing(&'static str),
    /// A value that cannot be read.
    #[error("query with malformed {0}")]
    Malformed(&'static str),
    /// A reply that is not bencoded as it should be.
    #[error("tracker reply: {0}")]
    Reply(String),
}

impl From<BencodeError> for TrackerWireError {
    fn from(error: BencodeError) -> Self {
        Self::Reply(error.to_string())
    }
}

/// What a peer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// The first announce.
    Started,
    /// The download is complete.
    Completed,
    /// The peer leaves.
    Stopped,
}

impl AnnounceEvent {
    const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// `GET /announce?…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The peer.
    pub peer_id: PeerId,
    /// Where it listens.
    pub port: u16,
    /// Its address, when it knows better than the connection.
    pub ip: Option<IpAddr>,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes missing; 0 makes it a seeder.
    pub left: u64,
    /// What is new.
    pub event: Option<AnnounceEvent>,
    /// Peers wanted.
    pub numwant: Option<u32>,
    /// Peers as six bytes each (BEP 23).
    pub compact: bool,
    /// Identifies the peer when its address changes.
    pub key: Option<String>,
    /// Admits the peer to a protected swarm; flotilla's own key.
    pub ticket: Option<String>,
}

impl AnnounceRequest {
    /// Reads a raw query (without `?`).
    ///
    /// # Errors
    /// Keys missing or malformed.
    pub fn from_query(query: &str) -> Result<Self, TrackerWireError> {
        let values = Query::parse(query)?;
        let left = values.number("left")?.ok_or(TrackerWireError::Missing("left"))?;
        let event = match values.bytes("event") {
            None | Some(b"" | b"empty") => None,
            Some(b"started") => Some(AnnounceEvent::Started),
            Some(b"completed") => Some(AnnounceEvent::Completed),
            Some(b"stopped") => Some(AnnounceEvent::Stopped),
            // BEP 21 adds "paused"; other events tell nothing that is used here.
            Some(_) => None,
        };
        // A host name in `ip` is allowed by BEP 3 and ignored here.
        let ip = values.text("ip").and_then(|ip| ip.parse().ok());
        Ok(Self {
            info_hash: InfoHash::from_bytes(values.id("info_hash")?),
            peer_id: PeerId::from_bytes(values.id("peer_id")?),
            port: values.number("port")?.ok_or(TrackerWireError::Missing("port"))?,
            ip,
            uploaded: values.number("uploaded")?.unwrap_or(0),
            downloaded: values.number("downloaded")?.unwrap_or(0),
            left,
            event,
            numwant: values.number::<i64>("numwant")?.and_then(|n| u32::try_from(n).ok()),
            compact: values.bytes("compact") != Some(b"0"),
            key: values.text("key").map(str::to_owned),
            ticket: values.text("ticket").map(str::to_owned),
        })
    }

    /// The raw query (without `?`).
    pub fn to_query(&self) -> String {
        let mut query = format!(
            "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact={}",
            escaped(self.info_hash.as_bytes()),
            escaped(self.peer_id.as_bytes()),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left,
            u8::from(self.compact),
        );
        let optional = [
            ("ip", self.ip.map(|ip| ip.to_string())),
            ("event", self.event.map(|event| event.name().to_owned())),
            ("numwant", self.numwant.map(|numwant| numwant.to_string())),
            ("key", self.key.clone()),
            ("ticket", self.ticket.clone()),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                query.push_str(&format!("&{key}={}", escaped(value.as_bytes())));
            }
        }
        query
    }
}

/// The peers that a tracker hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Seconds that have to pass at least.
    pub min_interval: Option<u32>,
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Where peers listen.
    pub peers: Vec<SocketAddr>,
}

/// The answer to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnounceReply {
    /// Peers.
    Peers(AnnounceResponse),
    /// `failure reason`.
    Failure(String),
}

#[derive(Serialize, Deserialize)]
struct RawReply {
    #[serde(default)]
    complete: u32,
    #[serde(rename = "failure reason", default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(default)]
    incomplete: u32,
    #[serde(default)]
    interval: u32,
    #[serde(rename = "min interval", default, skip_serializing_if = "Option::is_none")]
    min_interval: Option<u32>,
    #[serde(default)]
    peers: ByteBuf,
    #[serde(default)]
    peers6: ByteBuf,
}

#[derive(Serialize)]
struct RawFailure<'a> {
    #[serde(rename = "failure reason")]
    failure: &'a str,
}

impl AnnounceReply {
    /// The bencoded dictionary, peers in compact form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Failure(failure) => serde_bencode::to_bytes(&RawFailure { failure }),
            Self::Peers(response) => serde_bencode::to_bytes(&response.raw()),
        };
        // Serializing integers and byte strings cannot fail.
        bytes.unwrap_or_default()
    }

    /// Reads the bencoded dictionary; peers in compact form.
    ///
    /// # Errors
    /// Not such a dictionary, or too large.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrackerWireError> {
        bencode::guard(bytes, LARGEST_REPLY)?;
        let raw: RawReply =
            serde_bencode::from_bytes(bytes).map_err(|e| TrackerWireError::Reply(e.to_string()))?;
        if let Some(failure) = raw.failure {
            return Ok(Self::Failure(failure));
        }
        let (v4, rest4) = raw.peers.as_chunks::<6>();
        let (v6, rest6) = raw.peers6.as_chunks::<18>();
        if !rest4.is_empty() || !rest6.is_empty() {
            return Err(TrackerWireError::Reply("compact peers with a remainder".to_owned()));
        }
        let v4 = v4.iter().map(|[a, b, c, d, p, q]| {
            SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*p, *q])))
        });
        let v6 = v6.iter().filter_map(|entry| {
            let (ip, port) = entry.split_first_chunk::<16>()?;
            Some(SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes(port.try_into().ok()?))))
        });
        Ok(Self::Peers(AnnounceResponse {
            interval: raw.interval,
            min_interval: raw.min_interval,
            complete: raw.complete,
            incomplete: raw.incomplete,
            peers: v4.chain(v6).collect(),
        }))
    }
}

impl AnnounceResponse {
    fn raw(&self) -> RawReply {
        let mut peers = Vec::new();
        let mut peers6 = Vec::new();
        for peer in &self.peers {
            let port = peer.port().to_be_bytes();
            match peer.ip() {
                IpAddr::V4(ip) => peers.extend_from_slice(&[&ip.octets()[..], &port].concat()),
                IpAddr::V6(ip) => peers6.extend_from_slice(&[&ip.octets()[..], &port].concat()),
            }
        }
        RawReply {
            complete: self.complete,
            failure: None,
            incomplete: self.incomplete,
            interval: self.interval,
            min_interval: self.min_interval,
            peers: ByteBuf::from(peers),
            peers6: ByteBuf::from(peers6),
        }
    }
}

/// `GET /scrape?info_hash=…&info_hash=…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeRequest {
    /// The swarms asked about.
    pub info_hashes: Vec<InfoHash>,
}

impl ScrapeRequest {
    /// Reads a raw query (without `?`).
    ///
    /// # Errors
    /// Malformed hashes, or too many.
    pub fn from_query(query: &str) -> Result<Self, TrackerWireError> {
        let values = Query::parse(query)?;
        let hashes: Result<Vec<_>, _> = values
            .0
            .iter()
            .filter(|(key, _)| *key == "info_hash")
            .map(|(_, value)| value.as_slice().try_into().map(InfoHash::from_bytes))
            .collect();
        let info_hashes = hashes.map_err(|_| TrackerWireError::Malformed("info_hash"))?;
        if info_hashes.len() > MOST_SCRAPED {
            return Err(TrackerWireError::Malformed("info_hash (too many)"));
        }
        Ok(Self { info_hashes })
    }
}

/// Counts of one swarm (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrapeCounts {
    /// Seeders.
    pub complete: u32,
    /// Downloads completed.
    pub downloaded: u32,
    /// Leechers.
    pub incomplete: u32,
}

/// The answer to a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeResponse {
    /// Counts by swarm.
    pub files: Vec<(InfoHash, ScrapeCounts)>,
}

#[derive(Serialize, Deserialize)]
struct RawScrape {
    files: BTreeMap<ByteBuf, ScrapeCounts>,
}

impl ScrapeResponse {
    /// The bencoded dictionary.
    pub fn to_bytes(&self) -> Vec<u8> {
        let files = self.files.iter();
        let files = files.map(|(hash, counts)| (ByteBuf::from(hash.as_bytes().to_vec()), *counts));
        // Serializing integers and byte strings cannot fail.
        serde_bencode::to_bytes(&RawScrape { files: files.collect() }).unwrap_or_default()
    }

    /// Reads the bencoded dictionary.
    ///
    /// # Errors
    /// Not such a dictionary, or too large.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrackerWireError> {
        bencode::guard(bytes, LARGEST_REPLY)?;
        let raw: RawScrape =
            serde_bencode::from_bytes(bytes).map_err(|e| TrackerWireError::Reply(e.to_string()))?;
        let files = raw.files.into_iter().map(|(hash, counts)| {
            let hash = hash.as_slice().try_into().map_err(|_| TrackerWireError::Malformed("files"))?;
            Ok((InfoHash::from_bytes(hash), counts))
        });
        Ok(Self { files: files.collect::<Result<_, TrackerWireError>>()? })
    }
}

/// A raw query: keys in order, values percent-decoded to bytes (they need not be UTF-8).
struct Query<'a>(Vec<(&'a str, Vec<u8>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Result<Self, TrackerWireError> {
        if query.len() > LONGEST_QUERY {
            return Err(TrackerWireError::TooLong { found: query.len() });
        }
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Ok(Self(pairs.map(|(key, value)| (key, unescaped(value))).collect()))
    }

    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_slice())
    }

    fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }

    fn id(&self, key: &'static str) -> Result<[u8; 20], TrackerWireError> {
        let bytes = self.bytes(key).ok_or(TrackerWireError::Missing(key))?;
        bytes.try_into().map_err(|_| TrackerWireError::Malformed(key))
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, TrackerWireError> {
        match self.bytes(key) {
            None => Ok(None),
            Some(_) => {
                let number = self.text(key).and_then(|text| text.parse().ok());
                number.map(Some).ok_or(TrackerWireError::Malformed(key))
            }
        }
    }
}

/// RFC 3986 section 2.1; `+` stands for itself. A `%` without two digits stands for itself.
fn unescaped(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%');
        match digits.and_then(|digits| HEXLOWER.decode(&digits.to_ascii_lowercase()).ok()) {
            Some(byte) => {
                bytes.extend_from_slice(&byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
