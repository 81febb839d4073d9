//! The messages between peers: BEP 3, the Fast extension (BEP 6), the extension protocol
//! (BEP 10) and what it carries (BEP 9, BEP 11).

mod decoder;
mod extended_handshake;
mod handshake;
mod message;
mod metadata;
mod peer_exchange;

pub use decoder::{MessageDecoder, PeerWireError};
pub use extended_handshake::{ExtendedHandshake, ExtendedHandshakeError};
pub use handshake::{Handshake, HandshakeError};
pub use message::{Message, encode_piece_header};
pub use metadata::{MetadataMessage, MetadataMessageError};
pub use peer_exchange::{PeerExchange, PeerExchangeError};
