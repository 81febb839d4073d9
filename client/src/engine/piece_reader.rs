//! Gives away pieces that are held: from memory while they are hot, else from the disk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_torrents::{Block, InfoHash, PieceIndex};

use crate::blocking::blocking_read;
use crate::engine::hot_pieces::HotPieces;
use crate::engine::piece_storage::PieceStorage;
use crate::piece_data::PieceData;

/// Read at once when blocks are asked for one after the other.
const READ_AHEAD: u32 = 1024 * 1024;

/// Reads the held pieces of one swarm. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PieceReader {
    pub(crate) storage: PieceStorage,
    pub(crate) swarm: InfoHash,
    pub(crate) hot: Arc<HotPieces>,
}

/// What one connection was read in advance: the blocks of a piece leave in order.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// Where in the whole the bytes begin.
    offset: u64,
    bytes: Bytes,
    /// Where the block ended that was asked for last.
    next: u64,
}

impl PieceReader {
    /// A block whose piece is in memory.
    pub(crate) fn hot(&self, block: Block) -> Option<PieceData> {
        let start = usize::try_from(block.offset).ok()?;
        let length = usize::try_from(block.length).ok()?;
        let data = self.hot_piece(block.piece)?;
        Some(data.slice(start..start.checked_add(length)?))
    }

    /// A piece that is in memory.
    pub(crate) fn hot_piece(&self, piece: PieceIndex) -> Option<PieceData> {
        self.hot.get(self.swarm, piece)
    }

    /// A block from the disk, and what follows it when blocks are asked for in order.
    pub(crate) async fn read(&self, block: Block, ahead: &mut ReadAhead) -> io::Result<Bytes> {
        let geometry = self.storage.geometry();
        let offset = geometry.piece_offset(block.piece) + u64::from(block.offset);
        let length = usize::try_from(block.length).map_err(io::Error::other)?;
        let end = offset.saturating_add(block.length.into());
        let is_next = ahead.next == offset || block.offset == 0;
        ahead.next = end;
        if let Some(bytes) = ahead.take(offset, length) {
            return Ok(bytes);
        }
        let rest = geometry
            .piece_size(block.piece)
            .saturating_sub(block.offset);
        let much = rest.min(READ_AHEAD).max(block.length);
        let most = usize::try_from(if is_next { much } else { block.length });
        let most = most.map_err(io::Error::other)?;
        let storage = self.storage.clone();
        ahead.bytes = blocking_read(move || storage.read(offset, most)).await?;
        ahead.offset = offset;
        ahead
            .take(offset, length)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl ReadAhead {
    /// The bytes at `offset`, if they are here; what is before them goes.
    fn take(&mut self, offset: u64, length: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let end = start.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let taken = self.bytes.slice(start..end);
        self.bytes = self.bytes.slice(end..);
        self.offset = offset.saturating_add(length as u64);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_in_advance_is_taken_in_order_once() {
        let mut ahead = ReadAhead {
            offset: 100,
            bytes: Bytes::from_static(b"abcdef"),
            next: 0,
        };
        assert_eq!(ahead.take(99, 1), None);
        assert_eq!(ahead.take(101, 2).unwrap(), "bc");
        assert_eq!(ahead.take(101, 2), None);
        assert_eq!(ahead.take(103, 4), None);
        assert_eq!(ahead.take(103, 3).unwrap(), "def");
        assert_eq!(ahead.take(106, 1), None);
    }
}
