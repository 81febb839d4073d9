//! The messages of the cluster's HTTP API, JSON.
//!
//! The reader caps the bytes of the body before it is parsed.

use std::fmt;

use data_encoding::BASE64;
use flotilla_torrents::{ContentId, Digest, Geometry, HexError, InfoHash, PeerId, PieceHash};
use serde::{Deserialize, Serialize};

use crate::{SignedTicket, TicketKey};

/// `GET /v1/hello`: how a supernode introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// The peer id of its seeder.
    pub peer_id: PeerId,
    /// What its tickets are verified with.
    pub ticket_key: TicketKey,
    /// Where its seeder listens, on the host that answered.
    pub peer_port: u16,
    /// Registries (`http[s]://HOST[:PORT]`) that share their layers: a caller that one of them
    /// lets in may have the layer that another one sent.
    pub shared_origins: Vec<String>,
}

/// `POST /v1/swarms`: asks for a swarm that brings `url`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// What to fetch: http or https.
    pub url: String,
    /// The caller's own headers for the source: its `Authorization`.
    pub headers: Vec<(String, String)>,
    /// What the whole must hash to, when that is known.
    pub digest: Option<Digest>,
    /// Query parameters that do not name the content, such as signatures: callers whose URLs
    /// differ in them alone share a swarm. Only for content without digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter_query: Vec<String>,
    /// The peer that will take part.
    pub peer_id: PeerId,
    /// The node's name, shown to operators.
    pub node: String,
    /// The node has the blob, with this many bytes, and would give it: the supernode need not read
    /// it from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<u64>,
    /// The images that the layer belongs to, as people name them, those asked for last first:
    /// shown to operators; none when it was asked for by digest only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// How many bytes the blob has, as the manifest says that names it: for sources that do not say so
    /// themselves. The digest decides whether it is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

// The headers hold credentials.
impl fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("url", &self.url)
            .field("digest", &self.digest)
            .field("peer_id", &self.peer_id)
            .field("node", &self.node)
            .field("offered", &self.offered)
            .finish_non_exhaustive()
    }
}

/// What comes of an [`OpenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum OpenResponse {
    /// The swarm is open to the caller.
    Open(SwarmDescriptor),
    /// The source refuses this caller.
    Refused {
        /// The source's status code.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// The supernode takes what is offered, by `PUT /v1/swarms/{id}/content`. It opens the swarm
    /// to no peer before the whole is there and matches its digest.
    Wanted {
        /// The swarm that it would seed.
        swarm: InfoHash,
        /// Admits the caller.
        ticket: SignedTicket,
    },
    /// This supernode cannot bring it now, another one may: it does not reach the source, or cannot write.
    Elsewhere {
        /// Why.
        reason: String,
        /// Seconds for which it need not be asked for content of this source.
        seconds: u32,
    },
    /// No swarm can bring this, for example because its length is unknown: go to the source.
    Unswarmable {
        /// Why.
        reason: String,
    },
}

/// The answer to `POST /v1/torrents` and `DELETE /v1/torrents/{info_hash}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredTorrent {
    /// The swarm that strangers may take part in, or no longer may.
    pub info_hash: InfoHash,
}

/// What a node needs to take part in a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmDescriptor {
    /// The swarm's id.
    pub swarm: InfoHash,
    /// What it brings.
    pub content: ContentId,
    /// Bytes of the content.
    pub length: u64,
    /// Bytes of each piece but the last.
    pub piece_length: u32,
    /// How the content is handed out.
    pub delivery: Delivery,
    /// Admits the caller.
    pub ticket: SignedTicket,
    /// Where the supernode's seeder listens, on the host that answered.
    pub peer_port: u16,
    /// The source's `ETag`, else its `Last-Modified`, for content without digest: what a node
    /// that continues at the source asks with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
    /// The content itself, when it is no longer than [`InlineContent::MAX_LENGTH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<InlineContent>,
}

/// Content so short that asking for it costs more than sending it; in JSON as base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InlineContent(pub Vec<u8>);

impl InlineContent {
    /// Bytes.
    pub const MAX_LENGTH: u64 = 128 * 1024;
}

impl fmt::Debug for InlineContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InlineContent({} bytes)", self.0.len())
    }
}

impl From<InlineContent> for String {
    fn from(content: InlineContent) -> Self {
        BASE64.encode(&content.0)
    }
}

impl TryFrom<String> for InlineContent {
    type Error = data_encoding::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text.as_bytes()).map(Self)
    }
}

/// How content is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// By a swarm.
    Pieces,
    /// Whole, by the supernode: too small to be worth a swarm.
    Whole,
}

/// One line of `GET /v1/swarms/{id}/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwarmEvent {
    /// More pieces are known.
    Pieces {
        /// The index of the first hash.
        first: u32,
        /// The hashes from there on.
        hashes: PieceHashes,
    },
    /// The whole matches its digest: nothing will be added.
    Sealed {
        /// The info hash of the standard torrent.
        info_hash: InfoHash,
        /// SHA-256 of the whole.
        sha256: Digest,
    },
    /// The content is not what it should be, or cannot be had: forget it.
    Void {
        /// Why.
        reason: String,
        /// The first piece that is not as it was published, when the content is wrong from there on.
        /// What comes before it is right.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_wrong: Option<u32>,
    },
    /// This supernode cannot bring the rest, another one may.
    Elsewhere {
        /// Why.
        reason: String,
        /// Seconds for which it need not be asked for content of this source.
        seconds: u32,
    },
    /// The supernode is alive.
    Heartbeat {},
}

/// Piece hashes in order; in JSON one string of 40 hexadecimal digits for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceHashes(pub Vec<PieceHash>);

impl From<Vec<PieceHash>> for PieceHashes {
    fn from(hashes: Vec<PieceHash>) -> Self {
        Self(hashes)
    }
}

impl From<PieceHashes> for Vec<PieceHash> {
    fn from(hashes: PieceHashes) -> Self {
        hashes.0
    }
}

impl fmt::Display for PieceHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|hash| write!(f, "{hash}"))
    }
}

impl std::str::FromStr for PieceHashes {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const DIGITS: usize = 2 * PieceHash::LENGTH;
        let most = usize::try_from(Geometry::MAX_PIECES).unwrap_or(usize::MAX);
        let (hashes, rest) = text.as_bytes().as_chunks::<DIGITS>();
        if !rest.is_empty() || hashes.len() > most {
            let expected = hashes.len().min(most) * PieceHash::LENGTH;
            let found = text.len().div_ceil(2);
            return Err(HexError::Length {
                what: "piece hashes",
                expected,
                found,
            });
        }
        let decode = |digits| {
            let digits = std::str::from_utf8(digits);
            digits
                .map_err(|_| HexError::Digits {
                    what: "piece hashes",
                })?
                .parse()
        };
        hashes
            .iter()
            .map(|digits| decode(digits.as_slice()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Serialize for PieceHashes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PieceHashes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_are_lines_of_json() {
        let hash = PieceHash::from_bytes([0xab; 20]);
        let digest = format!("sha256:{}", "cd".repeat(32));
        let cases = [
            (
                SwarmEvent::Pieces {
                    first: 3,
                    hashes: vec![hash, hash].into(),
                },
                format!(
                    r#"{{"pieces":{{"first":3,"hashes":"{}"}}}}"#,
                    "ab".repeat(40)
                ),
            ),
            (
                SwarmEvent::Sealed {
                    info_hash: InfoHash::from_bytes([1; 20]),
                    sha256: digest.parse().unwrap(),
                },
                format!(
                    r#"{{"sealed":{{"info_hash":"{}","sha256":"{digest}"}}}}"#,
                    "01".repeat(20)
                ),
            ),
            (
                SwarmEvent::Void {
                    reason: "gone".to_owned(),
                    first_wrong: None,
                },
                r#"{"void":{"reason":"gone"}}"#.to_owned(),
            ),
            (
                SwarmEvent::Void {
                    reason: "other bytes".to_owned(),
                    first_wrong: Some(7),
                },
                r#"{"void":{"reason":"other bytes","first_wrong":7}}"#.to_owned(),
            ),
            (SwarmEvent::Heartbeat {}, r#"{"heartbeat":{}}"#.to_owned()),
        ];
        for (event, json) in cases {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<SwarmEvent>(&json).unwrap(), event);
        }
    }

    #[test]
    fn an_open_swarm_round_trips() {
        let (signer, _) = crate::TicketSigner::generate().unwrap();
        let swarm = InfoHash::from_bytes([1; 20]);
        let peer_id = PeerId::from_bytes([2; 20]);
        let open = OpenResponse::Open(SwarmDescriptor {
            swarm,
            content: ContentId::url("https://example.org/a", "", 5),
            length: 5,
            piece_length: 1 << 18,
            delivery: Delivery::Whole,
            ticket: signer.sign(&crate::Ticket {
                swarm,
                peer_id,
                expires: 7,
            }),
            peer_port: 9001,
            validator: Some("\"v1\"".to_owned()),
            inline: Some(InlineContent(b"short".to_vec())),
        });
        let json = serde_json::to_string(&open).unwrap();
        assert!(
            json.starts_with(r#"{"outcome":"open","swarm":"0101"#),
            "{json}"
        );
        assert!(json.contains(r#""delivery":"whole""#), "{json}");
        assert_eq!(serde_json::from_str::<OpenResponse>(&json).unwrap(), open);
    }

    #[test]
    fn a_request_may_offer_and_fields_that_are_not_known_are_passed_over() {
        let request = |more: &str| {
            let peer_id = PeerId::from_bytes([2; 20]);
            let peer_id = serde_json::to_string(&peer_id).unwrap();
            let json = format!(
                r#"{{"url":"u","headers":[],"digest":null,"peer_id":{peer_id},"node":"n"{more}}}"#
            );
            serde_json::from_str::<OpenRequest>(&json).unwrap()
        };
        assert_eq!(request("").offered, None);
        assert_eq!(request(r#","offered":5"#).offered, Some(5));
        assert_eq!(request(r#","later":true"#), request(""));
    }

    #[test]
    fn the_debug_form_of_a_request_hides_its_headers() {
        let request = OpenRequest {
            url: "https://example.org/a".to_owned(),
            headers: vec![("authorization".to_owned(), "Bearer secret".to_owned())],
            digest: None,
            filter_query: vec!["signature".to_owned()],
            peer_id: PeerId::from_bytes([2; 20]),
            node: "node-1".to_owned(),
            offered: None,
            images: Vec::new(),
            length: None,
        };
        assert!(!format!("{request:?}").contains("secret"));
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<OpenRequest>(&json).unwrap(), request);
    }

    #[test]
    fn what_a_request_does_not_have_is_left_out_of_it() {
        let peer_id = PeerId::from_bytes([2; 20]);
        let request = OpenRequest {
            url: "https://example.org/a".to_owned(),
            headers: Vec::new(),
            digest: None,
            filter_query: Vec::new(),
            peer_id,
            node: "node-1".to_owned(),
            offered: None,
            images: Vec::new(),
            length: None,
        };
        let json = serde_json::to_string(&request).unwrap();
        assert!(
            !json.contains("filter_query") && !json.contains("images"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<OpenRequest>(&json).unwrap(), request);
    }

    #[test]
    fn piece_hashes_cut_short_are_refused() {
        assert!("ab".parse::<PieceHashes>().is_err());
        assert!("zz".repeat(20).parse::<PieceHashes>().is_err());
        assert!("é".repeat(20).parse::<PieceHashes>().is_err());
        assert_eq!("".parse(), Ok(PieceHashes::default()));
    }

    proptest! {
        #[test]
        fn piece_hashes_round_trip(hashes: Vec<[u8; 20]>) {
            let hashes = PieceHashes(hashes.into_iter().map(PieceHash::from_bytes).collect());
            prop_assert_eq!(hashes.to_string().parse(), Ok(hashes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<PieceHashes>();
            let _ = serde_json::from_str::<SwarmEvent>(&text);
        }
    }
}
