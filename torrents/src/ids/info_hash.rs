//! The name of a swarm.

use sha1::{Digest as _, Sha1};

use crate::{ContentId, Geometry};

/// Precedes what is hashed, so that the id of a growing swarm is no info hash of any torrent.
const SWARM_DOMAIN: &[u8] = b"flotilla swarm 1\0";

/// The 20 bytes that name a swarm in handshakes and announces (BEP 3 `info_hash`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash([u8; 20]);

public_id!(InfoHash, 20, "info hash");

impl InfoHash {
    /// The id of the swarm that brings `content`, known before any of its bytes.
    pub fn of_swarm(content: &ContentId, geometry: &Geometry) -> Self {
        let mut hasher = Sha1::new_with_prefix(SWARM_DOMAIN);
        hasher.update(content.as_str());
        hasher.update([0]);
        hasher.update(geometry.length().to_be_bytes());
        hasher.update(geometry.piece_length().to_be_bytes());
        Self(hasher.finalize().into())
    }

    /// The info hash of a v1 torrent: SHA-1 of the info dictionary as it was encoded (BEP 3).
    pub fn of_info(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// python3: `hashlib.sha1(b"flotilla swarm 1\0sha256:" + b"ab" * 32 + b"\0"
    /// + struct.pack(">QI", 10_000_000, 262144)).hexdigest()`
    #[test]
    fn the_swarm_id_is_the_one_an_independent_sha1_gives() {
        let content: ContentId = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let geometry = Geometry::new(10_000_000, 262_144).unwrap();
        assert_eq!(
            InfoHash::of_swarm(&content, &geometry).to_string(),
            "c935421c32880ae6bedadce66150eedcf5f76e75"
        );
    }

    #[test]
    fn length_and_piece_length_are_part_of_the_swarm_id() {
        let content: ContentId = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let ids = [
            (1 << 20, 1 << 18),
            ((1 << 20) + 1, 1 << 18),
            (1 << 20, 1 << 19),
        ]
        .map(|(length, piece)| Geometry::new(length, piece).unwrap())
        .map(|geometry| InfoHash::of_swarm(&content, &geometry));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }
}
