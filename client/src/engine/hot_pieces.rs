//! Pieces that this host has just verified, in memory.
//!
//! A piece is wanted most in the moment after it came: by peers, by the reader in front of it, and by the
//! hash of the whole. They get it from here and not from the disk.

use std::collections::{HashMap, VecDeque};

use flotilla_torrents::{InfoHash, PieceIndex};
use parking_lot::Mutex;

use crate::piece_data::PieceData;

/// Bytes of all swarms of the host together: four pieces of 4 MiB, the longest that are chosen.
const MAX_BYTES: usize = 16 * 1024 * 1024;

type Name = (InfoHash, PieceIndex);

/// The last pieces of all swarms of a host. The oldest one makes room.
#[derive(Debug, Default)]
pub(crate) struct HotPieces(Mutex<Hot>);

#[derive(Debug, Default)]
struct Hot {
    pieces: HashMap<Name, PieceData>,
    oldest_first: VecDeque<Name>,
    bytes: usize,
}

impl HotPieces {
    /// Keeps a verified piece for a while, unless it would push out all others.
    pub(crate) fn insert(&self, swarm: InfoHash, piece: PieceIndex, data: PieceData) {
        let length = data.len();
        if length > MAX_BYTES / 2 {
            return;
        }
        let mut hot = self.0.lock();
        hot.remove((swarm, piece));
        while hot.bytes.saturating_add(length) > MAX_BYTES
            && let Some(oldest) = hot.oldest_first.front().copied()
        {
            hot.remove(oldest);
        }
        hot.bytes += length;
        hot.pieces.insert((swarm, piece), data);
        hot.oldest_first.push_back((swarm, piece));
    }

    /// The bytes of a piece, if they are still here.
    pub(crate) fn get(&self, swarm: InfoHash, piece: PieceIndex) -> Option<PieceData> {
        self.0.lock().pieces.get(&(swarm, piece)).cloned()
    }

    /// Lets the pieces of a swarm go: it is void, left, or has nothing to do.
    pub(crate) fn forget(&self, swarm: InfoHash) {
        let mut hot = self.0.lock();
        let names = hot.oldest_first.iter().filter(|name| name.0 == swarm);
        for name in names.copied().collect::<Vec<_>>() {
            hot.remove(name);
        }
    }
}

impl Hot {
    fn remove(&mut self, name: Name) {
        if let Some(data) = self.pieces.remove(&name) {
            self.bytes = self.bytes.saturating_sub(data.len());
            self.oldest_first.retain(|other| *other != name);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_torrents::Geometry;

    use super::*;

    #[test]
    fn the_oldest_pieces_make_room_and_a_swarm_is_forgotten_whole() {
        let geometry = Geometry::new(64 << 20, 4 << 20).unwrap();
        let pieces: Vec<_> = geometry.pieces().collect();
        let (one, other) = (InfoHash::from_bytes([1; 20]), InfoHash::from_bytes([2; 20]));
        let data = || PieceData::from(Bytes::from(vec![7; 4 << 20]));
        let hot = HotPieces::default();
        for piece in &pieces[..4] {
            hot.insert(one, *piece, data());
            // Once more is no second copy.
            hot.insert(one, *piece, data());
        }
        assert!(
            pieces[..4]
                .iter()
                .all(|piece| hot.get(one, *piece).is_some())
        );
        hot.insert(other, pieces[0], data());
        assert!(hot.get(one, pieces[0]).is_none());
        assert!(hot.get(one, pieces[1]).is_some());
        hot.insert(other, pieces[1], Bytes::from(vec![7; 9 << 20]).into());
        assert!(hot.get(other, pieces[1]).is_none(), "it would push out all");
        hot.forget(one);
        assert!(pieces.iter().all(|piece| hot.get(one, *piece).is_none()));
        assert!(hot.get(other, pieces[0]).is_some());
    }
}
