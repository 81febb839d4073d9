//! The cluster API: JSON messages between nodes and supernodes.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ContentId, Digest, InfoHash, PeerId, PieceHash, SignedTicket, TicketKey};

/// Who a supernode is: the answer to `GET /v1/hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the software.
    pub version: String,
    /// Its name on the wire.
    pub peer_id: PeerId,
    /// What its tickets are checked with.
    pub ticket_key: TicketKey,
    /// Where its seeder listens.
    pub peer_port: u16,
}

/// Asks for a swarm: `POST /v1/swarms`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// Where the source has the content.
    pub url: String,
    /// The caller's credentials for the source.
    pub headers: Vec<(String, String)>,
    /// The blob's digest, when the URL names a blob.
    pub digest: Option<Digest>,
    /// The node that asks.
    pub peer_id: PeerId,
    /// The node's name for operators.
    pub node: String,
}

impl std::fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URL queries and headers hold credentials.
        f.debug_struct("OpenRequest")
            .field("digest", &self.digest)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// The answer to [`OpenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum OpenResponse {
    /// Join this swarm.
    Open(SwarmDescriptor),
    /// The source refuses this caller.
    Refused {
        /// The source's HTTP status.
        status: u16,
        /// In brief.
        reason: String,
    },
    /// The content does not fit into a swarm; go to the source.
    Unswarmable {
        /// In brief.
        reason: String,
    },
}

/// A swarm, and the leave to join it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmDescriptor {
    /// Its name on the wire.
    pub swarm: InfoHash,
    /// What it delivers.
    pub content: ContentId,
    /// Bytes of the content.
    pub length: u64,
    /// Bytes of a piece.
    pub piece_length: u32,
    /// How the content is handed out.
    pub delivery: Delivery,
    /// Admits the node that asked.
    pub ticket: SignedTicket,
    /// Where the supernode's seeder listens.
    pub peer_port: u16,
}

/// How content is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// By the swarm.
    Pieces,
    /// Whole, by the supernode: too small for a swarm.
    Whole,
}

/// One line of `GET /v1/swarms/{swarm}/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwarmEvent {
    /// The piece map has grown.
    Pieces {
        /// Number of the first piece named.
        first: u32,
        /// Its hash and those of its followers.
        hashes: PieceHashes,
    },
    /// The whole matches its digest; nothing more will be published.
    Sealed {
        /// The info hash of the standard torrent.
        info_hash: InfoHash,
        /// SHA-256 of the whole.
        sha256: Digest,
    },
    /// The swarm will never be complete; nothing of it is to be kept.
    Void {
        /// In brief.
        reason: String,
    },
    /// The supernode lives.
    Heartbeat {},
}

/// Piece hashes as one hexadecimal text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceHashes(pub Vec<PieceHash>);

impl From<PieceHashes> for Vec<PieceHash> {
    fn from(hashes: PieceHashes) -> Self {
        hashes.0
    }
}

impl Serialize for PieceHashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * 40);
        for hash in &self.0 {
            HEXLOWER.encode_append(hash.as_bytes(), &mut text);
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for PieceHashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        let (hashes, rest) = bytes.as_chunks::<20>();
        if !rest.is_empty() {
            return Err(de::Error::custom("piece hashes of 20 bytes each expected"));
        }
        Ok(Self(hashes.iter().copied().map(PieceHash::from_bytes).collect()))
    }
}
