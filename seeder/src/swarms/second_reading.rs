//! What follows when the source's bytes were not those of the digest: its pieces were published while they
//! came, so nodes have wrong ones. A registry has several stores, and most often only one answer is wrong.
//! A second one shows from which piece on the first was.

use bytes::BytesMut;
use flotilla_registry::source::SourceError;
use flotilla_torrents::{Digest, DigestHasher, PieceHash, PieceIndex};
use futures_util::StreamExt as _;

use super::ingest::Ingest;

impl Ingest {
    /// Declares the swarm void, from the first piece on that is wrong, if a second answer of the source
    /// is that of the digest.
    pub(super) async fn read_again(&self, expected: &Digest, reason: String) {
        match self.first_wrong(expected).await {
            Ok(Some(first)) => {
                tracing::warn!(%expected, piece = %first, "wrong answer of the source compared with a right one");
                self.origin.abort_from(first, reason).await;
            }
            Ok(None) => self.origin.abort(reason).await,
            Err(error) => {
                tracing::info!(%expected, %error, "wrong answer of the source not compared with another");
                self.origin.abort(reason).await;
            }
        }
    }

    /// The first piece that the source now sends otherwise than it was published. None: what it sends now
    /// is wrong as well.
    async fn first_wrong(&self, expected: &Digest) -> Result<Option<PieceIndex>, SourceError> {
        let mut body = self.open_from(0).await?;
        let geometry = self.origin.handle().geometry();
        let published = self.origin.handle().hashes_from(0);
        let mut whole = DigestHasher::new(expected.algorithm());
        let mut first_wrong = None;
        let mut buffer = BytesMut::new();
        for (piece, published) in geometry.pieces().zip(published) {
            let size = usize::try_from(geometry.piece_size(piece)).unwrap_or(usize::MAX);
            while buffer.len() < size {
                let Some(bytes) = body.bytes.next().await.transpose()? else {
                    return Ok(None);
                };
                buffer.extend_from_slice(&bytes);
            }
            let bytes = buffer.split_to(size).freeze();
            let hashed = tokio::task::spawn_blocking(move || {
                whole.update(&bytes);
                (whole, PieceHash::of(&bytes))
            });
            let Ok((updated, hash)) = hashed.await else {
                return Ok(None);
            };
            whole = updated;
            if hash != published && first_wrong.is_none() {
                first_wrong = Some(piece);
            }
        }
        let is_right = buffer.is_empty() && whole.finish() == *expected;
        Ok(first_wrong.filter(|_| is_right))
    }
}
