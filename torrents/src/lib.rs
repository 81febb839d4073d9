//! What a torrent is: digests, piece geometry, piece maps, metainfo, bitfields, and the
//! messages on the wire. No IO.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation
    )
)]

pub mod bencode;
mod bitfield;
mod content_id;
mod digest;
mod geometry;
mod ids;
mod metainfo;
pub mod peer_wire;
mod piece_map;
pub mod swarm_api;
mod ticket;
pub mod tracker_wire;

pub use self::bitfield::{Bitfield, BitfieldError};
pub use self::content_id::{ContentId, ContentIdError};
pub use self::digest::{Digest, DigestAlgorithm, DigestError, DigestHasher};
pub use self::geometry::{Block, Geometry, GeometryError, PieceIndex};
pub use self::ids::{IdError, InfoHash, PeerId, PieceHash};
pub use self::metainfo::{Metainfo, MetainfoError};
pub use self::piece_map::{CompleteError, PieceMap};
pub use self::ticket::{
    SignedTicket, Ticket, TicketError, TicketKey, TicketKeyError, TicketKeys, TicketSigner,
};
