//! What a swarm's task is sent.

use std::net::SocketAddr;

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, Digest, PieceIndex};

use crate::peers::connection::{HandshakeError, PeerConnection};
use crate::peers::web_seed::WebSeed;
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
    /// The whole is what it should be; of a layer, its SHA-256.
    Verified(Result<Option<Digest>, String>),
    Published(PieceIndex),
    HashesKnown(u32),
    Sealed(Digest),
    Abort(String),
    Peers(Vec<SocketAddr>),
    WebSeed(Box<WebSeed>),
    Reader(u64, Option<PieceIndex>),
}

/// What came of comparing a piece with its hash.
#[derive(Debug)]
pub(crate) enum PieceCheck {
    Stored,
    Corrupt,
    Disk(std::io::Error),
}
