//! What a torrent is: digests, piece geometry, piece maps, metainfo, bitfields, wire messages. No IO.
//!
//! Everything that decodes bytes from elsewhere is bounded: each length is compared with a named cap
//! before anything is allocated, and no input makes a decoder panic (property tests beside each
//! decoder, fuzz targets in `fuzz/`).

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

#[macro_use]
#[doc(hidden)]
pub mod ids;

pub mod bencode;
mod bitfield;
mod compact_peers;
mod geometry;
mod magnet;
mod metainfo;
pub mod peer_wire;
mod piece_map;
mod piece_ranges;
pub mod tracker_wire;

pub use bitfield::{Bitfield, BitfieldError};
pub use geometry::{Block, Geometry, GeometryError, PieceIndex};
pub use ids::content_id::{ContentId, ContentIdError};
pub use ids::digest::{Digest, DigestAlgorithm, DigestError, DigestHasher};
pub use ids::hex_form::HexError;
pub use ids::info_hash::InfoHash;
pub use ids::peer_id::PeerId;
pub use ids::piece_hash::{PieceHash, PieceHasher};
pub use magnet::{Magnet, MagnetError};
pub use metainfo::{FileLayout, FileListError, FileSpan, Metainfo, MetainfoError, TorrentFile};
pub use piece_map::{PieceMap, PieceMapError, SealError};
pub use piece_ranges::PieceRanges;
