//! A piece that is not whole yet.

use bytes::Bytes;
use flotilla_cluster::trace::PieceArrival;

use crate::piece_data::PieceData;

/// The blocks of a piece as they came: they are not copied together.
#[derive(Debug)]
pub(crate) struct PieceBuffer {
    blocks: Vec<(u32, Bytes)>,
    pub(crate) arrival: PieceArrival,
}

impl PieceBuffer {
    pub(crate) fn new(arrival: PieceArrival) -> Self {
        Self {
            blocks: Vec::new(),
            arrival,
        }
    }

    pub(crate) fn add(&mut self, offset: u32, data: Bytes) {
        self.blocks.push((offset, data));
    }

    /// The blocks in order. Where two overlap, the one that begins first counts.
    pub(crate) fn into_data(mut self) -> (PieceData, PieceArrival) {
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
