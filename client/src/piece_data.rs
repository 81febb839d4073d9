//! The bytes of a piece, in the parts that they came in.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use flotilla_torrents::{PieceHash, PieceHasher};

/// Bytes in memory that nothing has copied together. Cheap to clone and to cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceData {
    parts: Vec<Bytes>,
    length: usize,
}

impl PieceData {
    /// Adds the bytes that follow.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.length = self.length.saturating_add(part.len());
            self.parts.push(part);
        }
    }

    /// All bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The same bytes as slices for a vectored write.
    pub(crate) fn io_slices(&self) -> Vec<IoSlice<'_>> {
        self.parts.iter().map(|part| IoSlice::new(part)).collect()
    }

    /// SHA-1 of all bytes.
    pub fn hash(&self) -> PieceHash {
        let mut hasher = PieceHasher::default();
        for part in &self.parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// The bytes of `range`, as far as they are here; nothing is copied.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = Self::default();
        let mut start = 0;
        for part in &self.parts {
            let end = start + part.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                slice.push(part.slice(from - start..to - start));
            }
            start = end;
        }
        slice
    }
}

impl From<Bytes> for PieceData {
    fn from(bytes: Bytes) -> Self {
        let mut data = Self::default();
        data.push(bytes);
        data
    }
}

impl IntoIterator for PieceData {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_parts(parts: &[Vec<u8>]) -> PieceData {
        let mut data = PieceData::default();
        for part in parts {
            data.push(part.clone().into());
        }
        data
    }

    proptest! {
        #[test]
        fn parts_are_the_bytes_and_slices_are_slices_of_them(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            from in 0_usize..200,
            length in 0_usize..200,
        ) {
            let (data, bytes) = (in_parts(&parts), parts.concat());
            prop_assert_eq!(data.len(), bytes.len());
            prop_assert_eq!(data.hash(), PieceHash::of(&bytes));
            prop_assert_eq!(&data.parts().concat(), &bytes);
            let range = from.min(bytes.len())..(from + length).min(bytes.len());
            let slice = data.slice(from..from + length);
            prop_assert_eq!(slice.len(), range.len());
            prop_assert_eq!(slice.parts().concat(), &bytes[range]);
        }
    }
}
