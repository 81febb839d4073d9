//! Cuts what a source sends into pieces.

use bytes::{Bytes, BytesMut};
use flotilla_client::PieceData;
use flotilla_registry::pace::Pace;
use flotilla_registry::source::SourceBody;
use flotilla_torrents::Geometry;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::ingest_error::IngestError;

/// Shorter parts are copied together: each of them keeps a whole read buffer in memory.
const SHORT_PART: usize = 32 * 1024;

/// The body of a source's answer.
pub(super) struct PieceSource<'a> {
    geometry: Geometry,
    body: SourceBody,
    pace: &'a mut Pace,
    /// Bytes that follow the last whole piece, in the order that they came.
    piece: PieceData,
    /// Short parts after those.
    short: BytesMut,
    /// What came with the end of the piece before.
    rest: Bytes,
}

impl<'a> PieceSource<'a> {
    pub(super) fn new(geometry: Geometry, body: SourceBody, pace: &'a mut Pace) -> Self {
        Self {
            geometry,
            body,
            pace,
            piece: PieceData::default(),
            short: BytesMut::new(),
            rest: Bytes::new(),
        }
    }

    /// Hands out the pieces from the `first` one on, until all are or none is taken any more.
    pub(super) async fn read_from(
        mut self,
        first: u32,
        pieces: mpsc::Sender<PieceData>,
    ) -> Result<(), IngestError> {
        for index in first..self.geometry.piece_count() {
            let Some(piece) = self.geometry.piece(index) else {
                break;
            };
            let size = usize::try_from(self.geometry.piece_size(piece)).unwrap_or(usize::MAX);
            let data = self.next(size, self.geometry.piece_offset(piece)).await?;
            if pieces.send(data).await.is_err() {
                // Why is the publisher's to say.
                return Ok(());
            }
        }
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(IngestError::Long(self.geometry.length()))
        }
    }

    /// The next `size` bytes, which are at `offset` of the whole.
    async fn next(&mut self, size: usize, offset: u64) -> Result<PieceData, IngestError> {
        loop {
            let have = self.piece.len() + self.short.len();
            let part = self.rest.split_to(self.rest.len().min(size - have));
            self.add(part);
            let have = self.piece.len() + self.short.len();
            if have == size {
                self.piece.push(self.short.split().freeze());
                return Ok(std::mem::take(&mut self.piece));
            }
            let before = self.body.waited.total();
            let next = self.body.bytes.next().await.transpose();
            let received = next
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map_or(0, Bytes::len);
            let waited = self.body.waited.total().saturating_sub(before);
            self.pace.note(waited, received)?;
            match next? {
                Some(bytes) => self.rest = bytes,
                None => return Err(IngestError::Short(offset + have as u64)),
            }
        }
    }

    fn add(&mut self, part: Bytes) {
        if part.len() < SHORT_PART {
            self.short.extend_from_slice(&part);
        } else {
            self.piece.push(self.short.split().freeze());
            self.piece.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_registry::pace::Waited;
    use futures_util::stream;

    use super::*;

    const PIECE: u32 = 64 * 1024;

    async fn cut(length: u64, first: u32, parts: Vec<Bytes>) -> (Vec<u8>, Result<(), IngestError>) {
        let geometry = Geometry::new(length, PIECE).unwrap();
        let waited = Waited::default();
        let body = SourceBody {
            total: None,
            validator: String::new(),
            bytes: waited
                .count(stream::iter(parts.into_iter().map(Ok)))
                .boxed(),
            waited,
        };
        let mut pace = Pace::of_length(length);
        let (sender, mut pieces) = mpsc::channel(100);
        let source = PieceSource::new(geometry, body, &mut pace);
        let outcome = source.read_from(first, sender).await;
        let mut bytes = Vec::new();
        let mut index = first;
        while let Some(piece) = pieces.recv().await {
            let size = geometry.piece_size(geometry.piece(index).unwrap());
            assert_eq!(piece.len() as u32, size);
            bytes.extend(piece.parts().concat());
            index += 1;
        }
        (bytes, outcome)
    }

    #[tokio::test]
    async fn parts_of_any_length_become_pieces() {
        let whole: Vec<u8> = (0..5 * PIECE / 2).map(|at| (at % 251) as u8).collect();
        for part in [1000, 40_000, 65_536, 100_000, 200_000] {
            let parts = whole.chunks(part).map(Bytes::copy_from_slice).collect();
            let (bytes, outcome) = cut(whole.len() as u64, 0, parts).await;
            assert!(outcome.is_ok() && bytes == whole, "parts of {part}");
        }
        let later = Bytes::copy_from_slice(&whole[PIECE as usize..]);
        let (bytes, outcome) = cut(whole.len() as u64, 1, vec![later]).await;
        assert!(outcome.is_ok() && bytes == whole[PIECE as usize..]);
    }

    #[tokio::test]
    async fn a_body_of_another_length_says_so_after_its_whole_pieces() {
        let length = 2 * u64::from(PIECE);
        let parts = |length| vec![Bytes::from(vec![1; length as usize])];
        let (bytes, outcome) = cut(length, 0, parts(length - 1)).await;
        assert_eq!(bytes.len() as u32, PIECE);
        assert!(matches!(outcome, Err(IngestError::Short(at)) if at == length - 1));
        let (bytes, outcome) = cut(length, 0, parts(length + 1)).await;
        assert_eq!(bytes.len() as u64, length);
        assert!(matches!(outcome, Err(IngestError::Long(_))));
    }
}
