//! Sets of pieces, for people and JSON.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::geometry::PieceIndex;

/// Numbers of pieces in ascending order, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRanges(Vec<RangeInclusive<u32>>);

impl PieceRanges {
    /// Adds `piece`, which comes after the others.
    pub fn push(&mut self, piece: PieceIndex) {
        let piece = piece.get();
        match self.0.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(piece) => *last = *last.start()..=piece,
            _ => self.0.push(piece..=piece),
        }
    }

    /// The ranges; they do not touch.
    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    /// Number of pieces.
    pub fn count(&self) -> u64 {
        let lengths = self.0.iter().map(|r| u64::from(r.end() - r.start()) + 1);
        lengths.sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `3, 7-9`
impl fmt::Display for PieceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}{}", range.start())?;
            if range.start() != range.end() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    #[test]
    fn numbers_that_follow_each_other_are_one_range() {
        let geometry = Geometry::new(10 << 14, 1 << 14).unwrap();
        let mut ranges = PieceRanges::default();
        for index in [0, 3, 4, 5, 9] {
            ranges.push(geometry.piece(index).unwrap());
        }
        assert_eq!(ranges.to_string(), "0, 3-5, 9");
        assert_eq!((ranges.count(), ranges.ranges().len()), (5, 3));
    }
}
