//! The name of a peer.

/// Client code and version, in the form of BEP 20: `-`, two letters, four digits, `-`.
const CLIENT_PREFIX: [u8; 8] = *b"-FL0001-";

/// The 20 bytes by which a peer names itself for one run (BEP 3 `peer_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 20]);

public_id!(PeerId, 20, "peer id");

impl PeerId {
    /// This program's prefix (BEP 20) and 12 bytes that the caller drew at random.
    pub fn from_random(random: [u8; 12]) -> Self {
        let mut bytes = [0; 20];
        let (prefix, rest) = bytes.split_at_mut(CLIENT_PREFIX.len());
        prefix.copy_from_slice(&CLIENT_PREFIX);
        rest.copy_from_slice(&random);
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_starts_with_the_client_prefix() {
        assert_eq!(
            PeerId::from_random(*b"abcdefghijkl").as_bytes(),
            b"-FL0001-abcdefghijkl"
        );
    }
}
