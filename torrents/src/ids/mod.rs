//! What names things: content, digests, swarms, peers, pieces; fixed bytes in hexadecimal text.

#[macro_use]
pub mod hex_form;

pub(crate) mod content_id;
pub(crate) mod digest;
pub(crate) mod info_hash;
pub(crate) mod peer_id;
pub(crate) mod piece_hash;
