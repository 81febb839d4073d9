//! Standard torrents: v1 metainfo of a single file (BEP 3, 12, 19, 27).
//!
//! Own structures with `serde_bencode`, since `librqbit-core` knows no web seeds and drops
//! unknown keys; foreign bytes pass [`bencode::guard`] first, which also gives the bytes
//! that the info hash is computed of.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha1::{Digest as _, Sha1};

use crate::bencode::{self, BencodeError};
use crate::{Geometry, GeometryError, InfoHash, PieceHash, PieceMap};

/// The largest torrent that is read: 2^20 pieces, and room for trackers.
const LARGEST: usize = 24 * 1024 * 1024;

/// A torrent of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// The file's name.
    pub name: String,
    /// The cut.
    pub geometry: Geometry,
    /// A hash for every piece.
    pub pieces: Vec<PieceHash>,
    /// Peers come from the trackers only (BEP 27).
    pub private: bool,
    /// Trackers, in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    info_hash: InfoHash,
}

/// Bytes are not a torrent that flotilla handles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Not canonical bencode.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// Keys are missing or of another type.
    #[error("torrent: {0}")]
    Structure(String),
    /// The lengths make no sense.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The number of hashes is not the number of pieces.
    #[error("torrent with {found} piece hashes, its length has {expected}")]
    Pieces {
        /// By the length.
        expected: u32,
        /// In `pieces`.
        found: usize,
    },
    /// The map still grows.
    #[error("the piece map is not complete")]
    Growing,
}

#[derive(Serialize, Deserialize)]
struct Info {
    length: u64,
    name: String,
    #[serde(rename = "piece length")]
    piece_length: u32,
    pieces: ByteBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<u8>,
}

#[derive(Serialize, Deserialize)]
struct Torrent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announce: Option<String>,
    #[serde(rename = "announce-list", default, skip_serializing_if = "Vec::is_empty")]
    announce_list: Vec<Vec<String>>,
    info: Info,
    #[serde(rename = "url-list", default, skip_serializing_if = "Vec::is_empty")]
    url_list: Vec<String>,
}

impl PieceMap {
    /// The standard torrent of a complete map: private, without dates, so that its info hash
    /// depends on the content alone.
    ///
    /// # Errors
    /// The map still grows.
    pub fn seal(&self, name: &str) -> Result<Metainfo, MetainfoError> {
        if !self.is_complete() {
            return Err(MetainfoError::Growing);
        }
        Ok(Metainfo::new(name.to_owned(), self.geometry(), self.hashes_from(0).to_vec(), true))
    }
}

impl Metainfo {
    fn new(name: String, geometry: Geometry, pieces: Vec<PieceHash>, private: bool) -> Self {
        let mut torrent = Self {
            name,
            geometry,
            pieces,
            private,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            info_hash: InfoHash::from_bytes([0; 20]),
        };
        let info = serde_bencode::to_bytes(&torrent.info()).unwrap_or_default();
        torrent.info_hash = InfoHash::from_bytes(Sha1::digest(info).into());
        torrent
    }

    /// SHA-1 of the bencoded `info`.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The contents of a `.torrent` file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let torrent = Torrent {
            announce: self.trackers.iter().flatten().next().cloned(),
            announce_list: if self.trackers.len() > 1 { self.trackers.clone() } else { Vec::new() },
            info: self.info(),
            url_list: self.web_seeds.clone(),
        };
        // Serializing integers, texts and byte strings cannot fail.
        serde_bencode::to_bytes(&torrent).unwrap_or_default()
    }

    /// Reads a `.torrent` file of a single file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let scan = bencode::guard(bytes, LARGEST)?;
        let torrent: Torrent =
            serde_bencode::from_bytes(bytes).map_err(|e| MetainfoError::Structure(e.to_string()))?;
        let geometry = Geometry::new(torrent.info.length, torrent.info.piece_length)?;
        let (hashes, rest) = torrent.info.pieces.as_chunks::<20>();
        let expected = geometry.piece_count();
        if !rest.is_empty() || u32::try_from(hashes.len()) != Ok(expected) {
            return Err(MetainfoError::Pieces { expected, found: torrent.info.pieces.len() / 20 });
        }
        let info = scan.info.and_then(|span| bytes.get(span)).unwrap_or_default();
        let announce = torrent.announce.map(|announce| vec![announce]);
        Ok(Self {
            name: torrent.info.name,
            geometry,
            pieces: hashes.iter().copied().map(PieceHash::from_bytes).collect(),
            private: torrent.info.private == Some(1),
            trackers: if torrent.announce_list.is_empty() {
                announce.into_iter().collect()
            } else {
                torrent.announce_list
            },
            web_seeds: torrent.url_list,
            info_hash: InfoHash::from_bytes(Sha1::digest(info).into()),
        })
    }

    fn info(&self) -> Info {
        let pieces = self.pieces.iter().flat_map(|hash| hash.as_bytes()).copied();
        Info {
            length: self.geometry.length(),
            name: self.name.clone(),
            piece_length: self.geometry.piece_length(),
            pieces: ByteBuf::from(pieces.collect::<Vec<u8>>()),
            private: self.private.then_some(1),
        }
    }
}
