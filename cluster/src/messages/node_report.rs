//! What a node tells its supernode about itself with each announce, for the statistics page.
//!
//! It travels in the request header [`NodeReport::HEADER`] as base64url of JSON. A reader that does not
//! know it, or a field in it, passes it over; what is missing has its default.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use flotilla_torrents::{Bitfield, PeerId};
use serde::{Deserialize, Serialize};

/// A node and its part in one swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its name, for operators.
    pub node: String,
    /// The program's version.
    pub version: String,
    /// The swarm that it announces itself to.
    pub swarm: SwarmPart,
    /// The host, over all its swarms.
    pub host: HostReport,
}

/// What one swarm has moved on a node since it runs there, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwarmPart {
    /// No tracker has heard these numbers before: all of them count.
    pub is_first: bool,
    /// Received from supernodes.
    pub from_supernodes: u64,
    /// Received from other nodes.
    pub from_peers: u64,
    /// Taken from the registry, because the swarm did not bring it.
    pub from_registry: u64,
    /// Received for nothing: duplicates and corrupt pieces.
    pub wasted: u64,
    /// Connections.
    pub peers: u32,
    /// The pieces here.
    pub held: HeldPieces,
    /// The peers that sent most of it.
    pub served_by: Vec<ServedBy>,
    /// Why bytes came from the registry, the last time that they did.
    pub registry_reason: Option<String>,
}

/// Another peer's part in a download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    /// The sender.
    pub peer: PeerId,
    /// Bytes.
    pub bytes: u64,
}

/// The host of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// Bytes taken from the registry instead of the swarm, since the program started.
    pub from_registry: u64,
    /// Bytes of layers on the disk.
    pub cache: u64,
    /// Bytes that these may take.
    pub cache_quota: u64,
    /// Limit on bytes per second sent to peers.
    pub upload_rate: Option<u64>,
    /// Limit on bytes per second received from peers.
    pub download_rate: Option<u64>,
    /// Peers shunned at the moment.
    pub shunned: u32,
    /// The supernodes that it knows.
    pub supernodes: Vec<SupernodeSeen>,
}

/// A supernode, as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupernodeSeen {
    /// Its URL, without credentials.
    pub url: String,
    /// Whether it answered the last time.
    pub reachable: bool,
}

impl NodeReport {
    /// The header's name.
    pub const HEADER: &'static str = "x-flotilla-report";
    /// Longest header value that is written or read.
    pub const MAX_LENGTH: usize = 8 * 1024;
    /// Longest text in a report, in characters; the rest is cut off.
    pub const MAX_TEXT_LENGTH: usize = 255;
    /// Peers named in [`SwarmPart::served_by`].
    pub const MAX_SERVED_BY: usize = 8;
    /// Supernodes named in [`HostReport::supernodes`].
    pub const MAX_SUPERNODES: usize = 8;

    /// The header's value; none when it would be too long.
    pub fn to_header(&self) -> Option<String> {
        let json = serde_json::to_vec(&self.clone().bounded()).ok()?;
        let text = BASE64URL_NOPAD.encode(&json);
        (text.len() <= Self::MAX_LENGTH).then_some(text)
    }

    /// Reads a header's value; none when it is no report.
    pub fn from_header(text: &[u8]) -> Option<Self> {
        if text.len() > Self::MAX_LENGTH {
            return None;
        }
        let json = BASE64URL_NOPAD.decode(text).ok()?;
        let report: Self = serde_json::from_slice(&json).ok()?;
        Some(report.bounded())
    }

    fn bounded(mut self) -> Self {
        shorten(&mut self.node);
        shorten(&mut self.version);
        self.swarm.served_by.truncate(Self::MAX_SERVED_BY);
        self.swarm.registry_reason.iter_mut().for_each(shorten);
        self.host.supernodes.truncate(Self::MAX_SUPERNODES);
        for supernode in &mut self.host.supernodes {
            shorten(&mut supernode.url);
        }
        self
    }
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(NodeReport::MAX_TEXT_LENGTH) {
        text.truncate(end);
    }
}

/// Which pieces are held, as one bit for each of at most [`HeldPieces::MAX`] stretches of equal
/// length: a bit is set when the whole stretch is held. In JSON base64, the first stretch is the
/// highest bit of the first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeldPieces(Vec<u8>);

impl HeldPieces {
    /// Stretches. Layers of up to 4 GiB have no more pieces: a stretch is a piece.
    pub const MAX: u32 = 1024;
    const MAX_BYTES: usize = 128;

    /// Pieces of each stretch but the last, of so many pieces.
    pub fn pieces_per_stretch(pieces: u32) -> u32 {
        pieces.div_ceil(Self::MAX).max(1)
    }

    /// Stretches of this many pieces.
    pub fn stretches(pieces: u32) -> u32 {
        pieces.div_ceil(Self::pieces_per_stretch(pieces))
    }

    /// The stretches that are held whole.
    pub fn of(held: &Bitfield) -> Self {
        let per_stretch = Self::pieces_per_stretch(held.len());
        let stretches = Self::stretches(held.len());
        let mut counts = vec![0_u32; usize::try_from(stretches).unwrap_or(0)];
        for piece in held.iter_set() {
            let stretch = usize::try_from(piece.get() / per_stretch).ok();
            if let Some(count) = stretch.and_then(|stretch| counts.get_mut(stretch)) {
                *count += 1;
            }
        }
        let mut bytes = vec![0_u8; counts.len().div_ceil(8)];
        for (stretch, count) in (0_u32..).zip(&counts) {
            let first = stretch * per_stretch;
            if *count == per_stretch.min(held.len() - first)
                && let Some(byte) = bytes.get_mut(usize::try_from(stretch / 8).unwrap_or(0))
            {
                *byte |= 0x80 >> (stretch % 8);
            }
        }
        Self(bytes)
    }

    /// The stretches that are held, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bytes = self.0.iter().enumerate();
        bytes.flat_map(|(at, byte)| {
            (0..8)
                .filter(move |bit| byte & (0x80 >> bit) != 0)
                .map(move |bit| at * 8 + bit)
        })
    }
}

impl From<HeldPieces> for String {
    fn from(held: HeldPieces) -> Self {
        BASE64.encode(&held.0)
    }
}

impl TryFrom<String> for HeldPieces {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|error| error.to_string())?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(format!(
                "{} bytes of held pieces, expected at most {}",
                bytes.len(),
                Self::MAX_BYTES
            ));
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use flotilla_torrents::Geometry;

    fn held(pieces: u32, set: impl Fn(u32) -> bool) -> HeldPieces {
        let geometry = Geometry::new(u64::from(pieces) * 16384, 16384).unwrap();
        let mut held = Bitfield::empty(&geometry);
        for index in (0..pieces).filter(|index| set(*index)) {
            held.set(geometry.piece(index).unwrap());
        }
        HeldPieces::of(&held)
    }

    #[test]
    fn a_stretch_is_a_piece_until_there_are_too_many() {
        assert_eq!(
            held(10, |n| n % 3 == 0).iter().collect::<Vec<_>>(),
            [0, 3, 6, 9]
        );
        // Two pieces each, and a last one alone.
        let many = held(1025, |n| n < 4 || n == 5 || n == 1024);
        assert_eq!(many.iter().collect::<Vec<_>>(), [0, 1, 512]);
        assert_eq!(HeldPieces::stretches(1025), 513);
    }

    #[test]
    fn a_full_report_fits_into_the_header_and_comes_back() {
        let long = "\u{1f6a2}".repeat(10_000);
        let report = NodeReport {
            node: long.clone(),
            version: long,
            swarm: SwarmPart {
                held: held(1024, |_| true),
                served_by: vec![
                    ServedBy {
                        peer: PeerId::from_bytes([1; 20]),
                        bytes: u64::MAX
                    };
                    100
                ],
                registry_reason: Some("r".repeat(1000)),
                ..SwarmPart::default()
            },
            host: HostReport {
                supernodes: vec![
                    SupernodeSeen {
                        url: "http://10.0.0.1:8001/".to_owned(),
                        reachable: true
                    };
                    100
                ],
                ..HostReport::default()
            },
        };
        let header = report.to_header().unwrap();
        let read = NodeReport::from_header(header.as_bytes()).unwrap();
        assert_eq!(read.node.chars().count(), NodeReport::MAX_TEXT_LENGTH);
        assert_eq!(read.swarm.served_by.len(), NodeReport::MAX_SERVED_BY);
        assert_eq!(read.host.supernodes.len(), NodeReport::MAX_SUPERNODES);
        assert_eq!(read.swarm.held, report.swarm.held);
    }

    #[test]
    fn reports_of_other_versions_are_read() {
        let read = |json: &str| {
            NodeReport::from_header(BASE64URL_NOPAD.encode(json.as_bytes()).as_bytes())
        };
        assert_eq!(read("{}"), Some(NodeReport::default()));
        let later = read(r#"{"node":"n","later":{"a":1},"swarm":{"from_peers":5,"later":[]}}"#);
        assert_eq!(later.unwrap().swarm.from_peers, 5);
        assert_eq!(read("5"), None);
        assert_eq!(
            NodeReport::from_header(&[b'A'; NodeReport::MAX_LENGTH + 1]),
            None
        );
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_passed_over(text: Vec<u8>) {
            let _ = NodeReport::from_header(&text);
            let _ = NodeReport::from_header(BASE64URL_NOPAD.encode(&text).as_bytes());
        }
    }
}
