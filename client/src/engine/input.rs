//! What a swarm's task is sent.

use std::net::SocketAddr;

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, Digest, PieceIndex};

use crate::peers::connection::{HandshakeError, PeerConnection};
use crate::peers::web_seed::WebSeed;
use crate::store::DamagedPiece;
use crate::swarm::PeerKey;

/// What happens to a swarm.
#[derive(Debug)]
pub(crate) enum Input {
    Connected(Box<PeerConnection>),
    Message(PeerKey, Message),
    BlockSent(PeerKey, Block),
    Closed {
        peer: PeerKey,
        misbehaved: bool,
    },
    DialFailed(SocketAddr, HandshakeError),
    PieceChecked(PieceIndex, PieceCheck),
    /// It was found damaged on the disk; whether it can be written there again.
    PieceLost(PieceIndex, bool),
    /// The whole is what it should be; of a layer, its SHA-256.
    Verified(Result<Option<Digest>, Unverified>),
    Published(PieceIndex),
    HashesKnown(u32),
    Sealed(Digest),
    Abort(String),
    Peers(Vec<SocketAddr>),
    WebSeed(Box<WebSeed>),
    Reader(u64, Option<PieceIndex>),
}

/// Why the whole is not what it should be.
#[derive(Debug)]
pub(crate) enum Unverified {
    /// The disk does not give back what it was given.
    Damaged(PieceIndex, bool),
    /// The content is wrong, or cannot be read.
    Wrong(String),
}

impl From<std::io::Error> for Unverified {
    fn from(error: std::io::Error) -> Self {
        match DamagedPiece::of(&error) {
            Some(damaged) => Self::Damaged(damaged.piece, damaged.is_repairable),
            None => Self::Wrong(error.to_string()),
        }
    }
}

/// What came of comparing a piece with its hash.
#[derive(Debug)]
pub(crate) enum PieceCheck {
    Stored,
    Corrupt,
    Disk(std::io::Error),
}
