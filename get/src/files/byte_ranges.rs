//! A set of bytes of a file.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes, as ranges that are in order, not empty, and neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct ByteRanges(Vec<Range<u64>>);

impl ByteRanges {
    /// How many bytes.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The byte after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// Adds `new`.
    pub(crate) fn add(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|range| range.end < new.start);
        let behind = self.0.partition_point(|range| range.start <= new.end);
        let touched = self.0.get(first..behind).unwrap_or_default();
        let start = touched
            .first()
            .map_or(new.start, |range| range.start.min(new.start));
        let end = touched
            .last()
            .map_or(new.end, |range| range.end.max(new.end));
        self.0.splice(first..behind, std::iter::once(start..end));
    }

    /// The first bytes from `start` on that are missing: where they begin, and where the next ones
    /// are that are here.
    pub(crate) fn gap_from(&self, start: u64) -> (u64, Option<u64>) {
        let at = self.0.partition_point(|range| range.end <= start);
        match self.0.get(at) {
            Some(range) if range.start <= start => {
                (range.end, self.0.get(at + 1).map(|next| next.start))
            }
            next => (start, next.map(|next| next.start)),
        }
    }
}

impl From<ByteRanges> for Vec<(u64, u64)> {
    fn from(ranges: ByteRanges) -> Self {
        ranges
            .0
            .into_iter()
            .map(|range| (range.start, range.end))
            .collect()
    }
}

/// Pairs that are no such ranges.
#[derive(Debug, thiserror::Error)]
#[error("ranges out of order")]
pub(crate) struct OutOfOrder;

impl TryFrom<Vec<(u64, u64)>> for ByteRanges {
    type Error = OutOfOrder;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, OutOfOrder> {
        let mut before = None;
        for (start, end) in &pairs {
            if start >= end || before.is_some_and(|before| before >= start) {
                return Err(OutOfOrder);
            }
            before = Some(end);
        }
        Ok(Self(
            pairs.into_iter().map(|(start, end)| start..end).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_what_is_missing() {
        let mut ranges = ByteRanges::default();
        assert_eq!(ranges.gap_from(0), (0, None));
        ranges.add(0..5);
        ranges.add(10..20);
        assert_eq!(ranges.gap_from(0), (5, Some(10)));
        assert_eq!(ranges.gap_from(7), (7, Some(10)));
        assert_eq!(ranges.gap_from(10), (20, None));
        ranges.add(5..10);
        assert_eq!(ranges.gap_from(0), (20, None));
        assert_eq!(ranges.count(), 20);
    }

    #[test]
    fn a_record_out_of_order_is_refused() {
        for text in ["[[5,5]]", "[[5,4]]", "[[0,5],[5,6]]", "[[5,6],[0,1]]"] {
            assert!(serde_json::from_str::<ByteRanges>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_added(added in prop::collection::vec((0_u64..64, 0_u64..16), 0..20)) {
            let mut ranges = ByteRanges::default();
            let mut set = std::collections::BTreeSet::new();
            for (start, length) in added {
                ranges.add(start..start + length);
                set.extend(start..start + length);
            }
            prop_assert_eq!(ranges.count(), set.len() as u64);
            for start in 0..90 {
                let (gap, _) = ranges.gap_from(start);
                let expected = (start..).find(|at| !set.contains(at));
                prop_assert_eq!(Some(gap), expected);
            }
            let json = serde_json::to_string(&ranges).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteRanges>(&json).unwrap(), ranges);
        }
    }
}
