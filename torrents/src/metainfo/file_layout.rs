//! The one place that maps bytes of the whole to bytes of files.

use std::ops::Range;

use crate::{Geometry, PieceIndex};

/// Part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// The file's number in the torrent, 0 for the first one.
    pub file: usize,
    /// Bytes of the file before it.
    pub offset: u64,
    /// Its bytes, at least 1.
    pub length: u64,
}

/// Where each file of a torrent lies in the whole: one after the other (BEP 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// Where each file starts, and after them where the last one ends.
    bounds: Vec<u64>,
}

impl FileLayout {
    /// The layout of files of these lengths.
    pub fn new(lengths: impl IntoIterator<Item = u64>) -> Self {
        let mut bounds = vec![0];
        let mut end = 0_u64;
        for length in lengths {
            end = end.saturating_add(length);
            bounds.push(end);
        }
        Self { bounds }
    }

    /// Where the file lies in the whole; nowhere when there is no such file.
    pub fn file_range(&self, file: usize) -> Range<u64> {
        let bound = |number: usize| self.bounds.get(number).copied();
        match (bound(file), file.checked_add(1).and_then(bound)) {
            (Some(start), Some(end)) => start..end,
            _ => 0..0,
        }
    }

    /// The parts of files that make up `range` of the whole, in order; what lies outside is left
    /// out, and so are empty files.
    pub fn spans(&self, range: Range<u64>) -> impl Iterator<Item = FileSpan> {
        // Of several files with one start, all but the last are empty.
        let first = self.bounds.partition_point(|start| *start <= range.start);
        let files = self.bounds.len().saturating_sub(1);
        (first.saturating_sub(1)..files)
            .map(|file| (file, self.file_range(file)))
            .take_while({
                let end = range.end;
                move |(_, bytes)| bytes.start < end
            })
            .filter_map(move |(file, bytes)| {
                let (start, end) = (bytes.start.max(range.start), bytes.end.min(range.end));
                let length = end.checked_sub(start).filter(|length| *length > 0)?;
                Some(FileSpan {
                    file,
                    offset: start - bytes.start,
                    length,
                })
            })
    }

    /// The pieces with bytes of this file.
    pub fn pieces_of(
        &self,
        file: usize,
        geometry: &Geometry,
    ) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        let bytes = self.file_range(file);
        let piece_length = u64::from(geometry.piece_length());
        let index = |piece: u64| u32::try_from(piece).unwrap_or(u32::MAX);
        let pieces = if bytes.is_empty() {
            0..0
        } else {
            index(bytes.start / piece_length)..index(bytes.end.div_ceil(piece_length))
        };
        geometry.pieces_in(pieces)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(file: usize, offset: u64, length: u64) -> FileSpan {
        FileSpan {
            file,
            offset,
            length,
        }
    }

    #[test]
    fn a_range_is_cut_at_the_ends_of_files_and_passes_over_empty_ones() {
        let layout = FileLayout::new([0, 5, 0, 3, 0]);
        let spans = |range| layout.spans(range).collect::<Vec<_>>();
        assert_eq!(spans(0..8), [span(1, 0, 5), span(3, 0, 3)]);
        assert_eq!(spans(4..6), [span(1, 4, 1), span(3, 0, 1)]);
        assert_eq!(spans(5..6), [span(3, 0, 1)]);
        assert_eq!(spans(7..99), [span(3, 2, 1)]);
        assert_eq!(spans(8..9), []);
        assert_eq!(layout.file_range(3), 5..8);
        assert_eq!(layout.file_range(5), 0..0);
    }

    #[test]
    fn a_file_has_the_pieces_that_it_shares_too() {
        let geometry = Geometry::new(40_000, 1 << 14).unwrap();
        let layout = FileLayout::new([16_384, 1, 0, 23_615]);
        let pieces = |file| {
            let pieces = layout.pieces_of(file, &geometry);
            pieces.map(PieceIndex::get).collect::<Vec<_>>()
        };
        assert_eq!(pieces(0), [0]);
        assert_eq!(pieces(1), [1]);
        assert_eq!(pieces(2), [0; 0]);
        assert_eq!(pieces(3), [1, 2]);
        assert_eq!(pieces(9), [0; 0]);
    }

    proptest! {
        #[test]
        fn spans_cover_each_byte_once(
            lengths in prop::collection::vec(0_u64..20, 0..12),
            start in 0_u64..200,
            length in 0_u64..200,
        ) {
            let layout = FileLayout::new(lengths.clone());
            let whole: Vec<_> = lengths
                .iter()
                .enumerate()
                .flat_map(|(file, length)| (0..*length).map(move |offset| (file, offset)))
                .collect();
            let expected: Vec<_> = whole
                .into_iter()
                .skip(start as usize)
                .take(length as usize)
                .collect();
            let found: Vec<_> = layout
                .spans(start..start + length)
                .flat_map(|span| (0..span.length).map(move |at| (span.file, span.offset + at)))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
