//! The messages between peers: BEP 3, the Fast extension (BEP 6) and the extension protocol
//! (BEP 10).

mod decoder;
mod extended_handshake;
mod handshake;
mod message;

pub use decoder::{MessageDecoder, PeerWireError};
pub use extended_handshake::{ExtendedHandshake, ExtendedHandshakeError};
pub use handshake::{Handshake, HandshakeError};
pub use message::{Message, encode_piece_header};
