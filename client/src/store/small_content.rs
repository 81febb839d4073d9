//! Content that is not worth a swarm: handed out whole, from memory.

use bytes::Bytes;
use flotilla_torrents::{ContentId, Digest, DigestHasher, Geometry};

/// All bytes of some content, compared with its digest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SmallContent {
    content: ContentId,
    geometry: Geometry,
    sha256: Digest,
    bytes: Bytes,
}

impl SmallContent {
    /// `None` when `bytes` are not that content.
    pub fn verify(content: ContentId, geometry: Geometry, bytes: Bytes) -> Option<Self> {
        let sha256 = DigestHasher::sha256_of(&bytes);
        let is_right = match content.digest() {
            Some(expected) if expected.algorithm() == sha256.algorithm() => expected == sha256,
            Some(expected) => expected == expected.of_same_algorithm(&bytes),
            None => true,
        };
        (is_right && bytes.len() as u64 == geometry.length()).then_some(Self {
            content,
            geometry,
            sha256,
            bytes,
        })
    }

    /// What it is.
    pub fn content(&self) -> &ContentId {
        &self.content
    }

    /// The cut that a swarm of it would have.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// SHA-256 of all bytes.
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// All bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestAlgorithm;

    use super::*;

    #[test]
    fn other_bytes_are_not_that_content() {
        let bytes = Bytes::from_static(b"some bytes");
        let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
        let sha256 = DigestHasher::sha256_of(&bytes);
        let mut sha512 = DigestHasher::new(DigestAlgorithm::Sha512);
        sha512.update(&bytes);
        for digest in [sha256, sha512.finish()] {
            let verify = |bytes: &'static [u8]| {
                SmallContent::verify(ContentId::blob(&digest), geometry, bytes.into())
            };
            assert!(verify(b"some bytes").is_some());
            assert!(verify(b"some bytez").is_none());
            assert!(verify(b"some bytes!").is_none());
            assert!(verify(b"").is_none());
        }
    }
}
