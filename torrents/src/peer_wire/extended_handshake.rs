//! The handshake of the extension protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::bencode::{self, BencodeError, DictWriter};

/// Longest extended handshake that is read; stock clients send some hundred bytes.
const MAX_BYTES: usize = 8 * 1024;

/// A peer whose extended handshake cannot be read: drop it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("extended handshake: {0}")]
#[non_exhaustive]
pub struct ExtendedHandshakeError(#[from] BencodeError);

/// The payload of the extended message 0: a dictionary (BEP 10). Absent keys say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// The sender's message ids for the extensions it speaks.
    pub m: BTreeMap<String, u8>,
    /// The sender's listening port.
    pub p: Option<u16>,
    /// The sender's name and version.
    pub v: Option<String>,
    /// Requests that the sender queues.
    pub reqq: Option<u32>,
    /// The sender downloads nothing (BEP 21).
    pub upload_only: bool,
    /// Bytes of the info dictionary (BEP 9).
    pub metadata_size: Option<u32>,
    /// The receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// A `SignedTicket` of the cluster (our own key).
    pub fl_ticket: Option<Vec<u8>>,
    /// The longest block in bytes that the sender serves (our own key). Stock clients serve 16 KiB.
    pub fl_block: Option<u32>,
}

/// Bytes of a block that every client serves (BEP 3).
const STANDARD_BLOCK: u32 = 16 * 1024;
/// Requests that a client queues which names no number: libtorrent takes it for granted.
const STANDARD_REQUEST_QUEUE: u32 = 250;
const MAX_REQUEST_QUEUE: u32 = 4096;

impl ExtendedHandshake {
    /// The longest block in bytes to request from the sender: what it serves, but at most `longest`, and
    /// at least the 16 KiB of BEP 3.
    pub fn block_length(&self, longest: u32) -> u32 {
        let served = self.fl_block.unwrap_or(STANDARD_BLOCK);
        served.min(longest).max(STANDARD_BLOCK)
    }

    /// Requests that the sender queues, from 1 to 4096.
    pub fn request_queue(&self) -> u32 {
        let queued = self.reqq.unwrap_or(STANDARD_REQUEST_QUEUE);
        queued.clamp(1, MAX_REQUEST_QUEUE)
    }

    /// The payload of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut m = DictWriter::default();
        for (name, id) in &self.m {
            m.integer(name, *id);
        }
        let mut dict = DictWriter::default();
        dict.raw(b"m", m.finish());
        if let Some(p) = self.p {
            dict.integer("p", p);
        }
        if let Some(v) = &self.v {
            dict.string("v", v);
        }
        if let Some(reqq) = self.reqq {
            dict.integer("reqq", reqq);
        }
        if self.upload_only {
            dict.integer("upload_only", 1_u32);
        }
        if let Some(metadata_size) = self.metadata_size {
            dict.integer("metadata_size", metadata_size);
        }
        match self.yourip {
            Some(IpAddr::V4(ip)) => dict.string("yourip", ip.octets()),
            Some(IpAddr::V6(ip)) => dict.string("yourip", ip.octets()),
            None => &mut dict,
        };
        if let Some(ticket) = &self.fl_ticket {
            dict.string("fl_ticket", ticket);
        }
        if let Some(block) = self.fl_block {
            dict.integer("fl_block", block);
        }
        dict.finish()
    }

    /// Reads the payload of the message, at most 8 KiB. What we cannot use is taken as not sent:
    /// numbers outside their range, an address that is none, an extension not named in UTF-8.
    ///
    /// # Errors
    /// Not strict bencode, or not a dictionary with these keys.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExtendedHandshakeError> {
        let (wire, _): (Wire, _) = bencode::decode(bytes, MAX_BYTES)?;
        let extension = |(name, id): (serde_bytes::ByteBuf, i64)| {
            Some((
                String::from_utf8(name.into_vec()).ok()?,
                u8::try_from(id).ok()?,
            ))
        };
        Ok(Self {
            m: wire.m.into_iter().filter_map(extension).collect(),
            p: number(wire.p),
            v: wire.v.map(|v| String::from_utf8_lossy(&v).into_owned()),
            reqq: number(wire.reqq),
            upload_only: wire.upload_only.is_some_and(|value| value != 0),
            metadata_size: number(wire.metadata_size),
            yourip: wire.yourip.and_then(|ip| address(&ip)),
            fl_ticket: wire.fl_ticket.map(serde_bytes::ByteBuf::into_vec),
            fl_block: number(wire.fl_block),
        })
    }
}

fn number<T: TryFrom<i64>>(value: Option<i64>) -> Option<T> {
    T::try_from(value?).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    m: BTreeMap<serde_bytes::ByteBuf, i64>,
    p: Option<i64>,
    v: Option<serde_bytes::ByteBuf>,
    reqq: Option<i64>,
    upload_only: Option<i64>,
    metadata_size: Option<i64>,
    yourip: Option<serde_bytes::ByteBuf>,
    fl_ticket: Option<serde_bytes::ByteBuf>,
    fl_block: Option<i64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of BEP 10; its second extension's name is not UTF-8.
    #[test]
    fn the_example_of_bep_10_is_read() {
        let bytes = b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let read = ExtendedHandshake::from_bytes(bytes).unwrap();
        assert_eq!(read.m, BTreeMap::from([("LT_metadata".to_owned(), 1)]));
        assert_eq!(read.p, Some(6881));
        assert_eq!(read.v.as_deref(), Some("µTorrent 1.2"));
    }

    #[test]
    fn numbers_out_of_range_and_unknown_keys_are_passed_over() {
        let bytes =
            b"d1:ei1e1:md1:ai256e1:bi2ee1:pi-1e4:reqqi99999999999e11:upload_onlyi1e6:yourip3:abce";
        let expected = ExtendedHandshake {
            m: BTreeMap::from([("b".to_owned(), 2)]),
            upload_only: true,
            ..ExtendedHandshake::default()
        };
        assert_eq!(ExtendedHandshake::from_bytes(bytes), Ok(expected));
    }

    #[test]
    fn what_is_no_dictionary_or_nested_too_deep_is_refused() {
        let deep = [
            b"d1:x".as_slice(),
            &b"l".repeat(4000),
            &b"e".repeat(4000),
            b"e",
        ]
        .concat();
        for bytes in [
            &b"i1e"[..],
            b"le",
            b"d1:pi1e1:mdee",
            b"d1:mi1ee",
            b"",
            &deep,
        ] {
            assert!(ExtendedHandshake::from_bytes(bytes).is_err());
        }
        assert_eq!(
            ExtendedHandshake::from_bytes(b"de"),
            Ok(ExtendedHandshake::default())
        );
    }

    fn handshakes() -> impl Strategy<Value = ExtendedHandshake> {
        let first = (
            any::<BTreeMap<String, u8>>(),
            any::<Option<u16>>(),
            any::<Option<String>>(),
            any::<Option<u32>>(),
            any::<bool>(),
        );
        let second = (
            any::<Option<u32>>(),
            any::<Option<IpAddr>>(),
            any::<Option<Vec<u8>>>(),
            any::<Option<u32>>(),
        );
        (first, second).prop_map(
            |((m, p, v, reqq, upload_only), (metadata_size, yourip, fl_ticket, fl_block))| {
                ExtendedHandshake {
                    m,
                    p,
                    v,
                    reqq,
                    upload_only,
                    metadata_size,
                    yourip,
                    fl_ticket,
                    fl_block,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(handshake in handshakes()) {
            let bytes = handshake.to_bytes();
            // Random maps of long strings may pass the cap.
            prop_assume!(bytes.len() <= MAX_BYTES);
            prop_assert_eq!(ExtendedHandshake::from_bytes(&bytes), Ok(handshake));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = ExtendedHandshake::from_bytes(&bytes);
        }

        #[test]
        fn any_change_to_a_handshake_is_read_or_refused(
            handshake in handshakes(), at: prop::sample::Index, byte: u8
        ) {
            let mut bytes = handshake.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = ExtendedHandshake::from_bytes(&bytes);
        }
    }
}
