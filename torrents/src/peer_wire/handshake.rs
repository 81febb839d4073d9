//! The first 68 bytes of a connection.

use crate::{InfoHash, PeerId};

/// BEP 3: the length 19 and the protocol's name.
const PROTOCOL: [u8; 20] = *b"\x13BitTorrent protocol";
/// BEP 10: reserved byte 5.
const EXTENDED_BIT: u8 = 0x10;
/// BEP 6: reserved byte 7.
const FAST_BIT: u8 = 0x04;

/// The bytes are no BitTorrent handshake; a client that tries encryption first sends such ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a BitTorrent handshake")]
#[non_exhaustive]
pub struct HandshakeError;

/// What both ends send first (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The sender.
    pub peer_id: PeerId,
    /// Whether the sender speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// Whether the sender speaks the Fast extension (BEP 6).
    pub fast: bool,
}

impl Handshake {
    /// Bytes of a handshake.
    pub const LENGTH: usize = 68;

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let extended = if self.extended { EXTENDED_BIT } else { 0 };
        let fast = if self.fast { FAST_BIT } else { 0 };
        let reserved = [0, 0, 0, 0, 0, extended, 0, fast];
        let parts = [
            &PROTOCOL[..],
            &reserved,
            self.info_hash.as_bytes(),
            self.peer_id.as_bytes(),
        ]
        .concat();
        bytes.copy_from_slice(&parts);
        bytes
    }

    /// Reads the bytes from the wire. Other reserved bits are passed over.
    ///
    /// # Errors
    /// Another protocol.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Result<Self, HandshakeError> {
        let (protocol, rest) = bytes.split_first_chunk().ok_or(HandshakeError)?;
        let (reserved, rest) = rest.split_first_chunk().ok_or(HandshakeError)?;
        let (info_hash, rest) = rest.split_first_chunk().ok_or(HandshakeError)?;
        let peer_id = rest.first_chunk().ok_or(HandshakeError)?;
        if *protocol != PROTOCOL {
            return Err(HandshakeError);
        }
        let [_, _, _, _, _, extended, _, fast]: [u8; 8] = *reserved;
        Ok(Self {
            info_hash: InfoHash::from_bytes(*info_hash),
            peer_id: PeerId::from_bytes(*peer_id),
            extended: extended & EXTENDED_BIT != 0,
            fast: fast & FAST_BIT != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_bep_3() {
        let handshake = Handshake {
            info_hash: InfoHash::from_bytes(*b"aaaaaaaaaaaaaaaaaaaa"),
            peer_id: PeerId::from_bytes(*b"-FL0001-bbbbbbbbbbbb"),
            extended: true,
            fast: true,
        };
        let expected =
            b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04aaaaaaaaaaaaaaaaaaaa-FL0001-bbbbbbbbbbbb";
        assert_eq!(&handshake.encode(), expected);
        assert_eq!(Handshake::decode(expected), Ok(handshake));
    }

    #[test]
    fn another_protocol_is_refused_and_other_bits_are_passed_over() {
        let mut bytes = [0xff; 68];
        assert_eq!(Handshake::decode(&bytes), Err(HandshakeError));
        bytes[..20].copy_from_slice(b"\x13BitTorrent protocol");
        let read = Handshake::decode(&bytes).unwrap();
        assert!(read.extended && read.fast);
    }

    proptest! {
        #[test]
        fn round_trip(info_hash: [u8; 20], peer_id: [u8; 20], extended: bool, fast: bool) {
            let handshake = Handshake {
                info_hash: InfoHash::from_bytes(info_hash),
                peer_id: PeerId::from_bytes(peer_id),
                extended,
                fast,
            };
            prop_assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn any_bytes_are_read_or_refused(rest: [u8; 32], tail: [u8; 16], named: bool) {
            let mut bytes = [&PROTOCOL[..], &rest, &tail].concat();
            if !named {
                bytes.reverse();
            }
            let _ = Handshake::decode(bytes.first_chunk().unwrap());
        }
    }
}
