//! What the driver of a swarm has to do.

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, PieceIndex};

use super::peer::PeerKey;

/// What to put on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A message as it is.
    Message(PeerKey, Message),
    /// Read this block from the store and send it; then call [`Swarm::handle_block_sent`](super::Swarm::handle_block_sent).
    Block(PeerKey, Block),
}

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// All blocks of the piece are here: compare its hash and store it, then call
    /// [`Swarm::handle_piece_stored`](super::Swarm::handle_piece_stored) or [`Swarm::handle_piece_corrupt`](super::Swarm::handle_piece_corrupt).
    PieceReceived(PieceIndex),
    /// Close this connection.
    Disconnect(PeerKey, DisconnectReason),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// Both ends have everything.
    NothingToExchange,
    /// It owed blocks and sent none for too long.
    Snubbed,
    /// It broke the protocol; do not reconnect soon.
    Misbehaved(&'static str),
    /// It sent a piece that does not match its hash: shun it.
    CorruptPiece,
}

/// What became of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// Put them into the piece.
    Keep,
    /// They are not needed.
    Discard,
}
