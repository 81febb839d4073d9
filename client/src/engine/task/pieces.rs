//! The pieces of one swarm on their way from the connections to the disk.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_cluster::trace::PieceArrival;
use flotilla_torrents::PieceIndex;

use super::SwarmTask;
use crate::engine::input::{Input, PieceCheck};
use crate::piece_data::PieceData;

/// The blocks of a piece as they came: they are not copied together.
pub(super) struct PieceBuffer {
    blocks: Vec<(u32, Bytes)>,
    pub(super) arrival: PieceArrival,
}

impl PieceBuffer {
    pub(super) fn new(arrival: PieceArrival) -> Self {
        Self {
            blocks: Vec::new(),
            arrival,
        }
    }

    pub(super) fn add(&mut self, offset: u32, data: Bytes) {
        self.blocks.push((offset, data));
    }

    /// The blocks in order. Where two overlap, the one that begins first counts.
    fn into_data(mut self) -> (PieceData, PieceArrival) {
        self.blocks.sort_by_key(|(offset, _)| *offset);
        let mut data = PieceData::default();
        for (offset, mut block) in self.blocks {
            let known = data.len().saturating_sub(at(offset)).min(block.len());
            let fresh = block.split_off(known);
            // A gap would change the hash as well; the core leaves none.
            if at(offset) <= data.len() {
                data.push(fresh);
            }
        }
        (data, self.arrival)
    }
}

impl SwarmTask {
    /// Compares a piece with its hash and stores it, away from the reactor.
    pub(super) fn check(&mut self, piece: PieceIndex) {
        let Some(buffer) = self.buffers.remove(&piece) else {
            return;
        };
        let (data, arrival) = buffer.into_data();
        let shared = &self.handle.0;
        let expected = shared.lock_map().hash(piece);
        let (storage, input) = (self.storage.clone(), shared.input.clone());
        let (swarm, hot) = (shared.swarm, Arc::clone(&shared.hot));
        let whole = self.whole_hash.clone();
        self.tasks.spawn_blocking(move || {
            let hash = data.hash();
            let check = if expected == Some(hash) {
                // Before it is held: from then on it is asked for.
                hot.insert(swarm, piece, data.clone());
                match storage.write_piece(piece, hash, &data) {
                    Ok(()) => PieceCheck::Stored,
                    Err(error) => PieceCheck::Disk(error),
                }
            } else {
                PieceCheck::Corrupt
            };
            let is_stored = matches!(check, PieceCheck::Stored);
            arrival.checked(is_stored);
            // Peers and readers first; the whole has time until its last piece.
            let _ = input.blocking_send(Input::PieceChecked(piece, check));
            if let Some(whole) = whole.filter(|_| is_stored) {
                whole.advance();
            }
        });
    }
}

fn at(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_any_order_and_twice_are_the_piece() {
        let mut buffer = PieceBuffer::new(PieceArrival::default());
        for (offset, data) in [(4, "efgh"), (0, "abcd"), (2, "cdef"), (8, "i"), (4, "efgh")] {
            buffer.add(offset, Bytes::from_static(data.as_bytes()));
        }
        let (data, _) = buffer.into_data();
        assert_eq!(data.parts().concat(), b"abcdefghi");
    }
}
