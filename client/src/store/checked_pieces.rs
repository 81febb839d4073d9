//! Pieces that were read from the disk and compared with their hash a moment ago: the blocks of one
//! piece go to several peers and readers, and are read and compared once.

use std::collections::VecDeque;

use bytes::Bytes;
use flotilla_torrents::PieceIndex;
use parking_lot::Mutex;

/// Bytes that the pieces may take, of all layers of a host together.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The pieces read last, by the number of their layer.
#[derive(Debug, Default)]
pub(super) struct CheckedPieces(Mutex<Pieces>);

#[derive(Debug, Default)]
struct Pieces {
    /// The one used last is last. A hundred or so: looking through them costs less than an index.
    recent: VecDeque<(u64, PieceIndex, Bytes)>,
    bytes: usize,
}

impl CheckedPieces {
    pub(super) fn get(&self, layer: u64, piece: PieceIndex) -> Option<Bytes> {
        let mut pieces = self.0.lock();
        let is_it = |(l, p, _): &(u64, PieceIndex, Bytes)| *l == layer && *p == piece;
        let at = pieces.recent.iter().rposition(is_it)?;
        let found = pieces.recent.remove(at)?;
        let bytes = found.2.clone();
        pieces.recent.push_back(found);
        Some(bytes)
    }

    pub(super) fn put(&self, layer: u64, piece: PieceIndex, bytes: Bytes) {
        let mut pieces = self.0.lock();
        pieces.forget(|l, p| l == layer && p == piece);
        pieces.bytes += bytes.len();
        pieces.recent.push_back((layer, piece, bytes));
        while pieces.bytes > MAX_BYTES {
            let Some((_, _, oldest)) = pieces.recent.pop_front() else {
                return;
            };
            pieces.bytes -= oldest.len();
        }
    }

    /// Gives back the memory of a layer that nothing uses.
    pub(super) fn forget_layer(&self, layer: u64) {
        self.0.lock().forget(|l, _| l == layer);
    }
}

impl Pieces {
    fn forget(&mut self, is_it: impl Fn(u64, PieceIndex) -> bool) {
        self.recent
            .retain(|(layer, piece, _)| !is_it(*layer, *piece));
        self.bytes = self.recent.iter().map(|(_, _, bytes)| bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::Geometry;

    use super::*;

    #[test]
    fn the_pieces_used_last_stay_within_the_memory_they_have() {
        let pieces = CheckedPieces::default();
        let geometry = Geometry::new(64 << 20, 1 << 20).unwrap();
        let at = |index| geometry.piece(index).unwrap();
        for index in 0..40 {
            pieces.put(1, at(index), Bytes::from(vec![0; 1 << 20]));
            assert!(pieces.get(1, at(0)).is_some(), "used all the time");
        }
        assert!(pieces.get(1, at(1)).is_none() && pieces.get(2, at(39)).is_none());
        assert!(pieces.get(1, at(39)).is_some());
        assert_eq!(pieces.0.lock().bytes, MAX_BYTES);
        pieces.forget_layer(1);
        assert_eq!(pieces.0.lock().bytes, 0);
    }
}
