//! The pieces that may be asked for, by how many peers hold them.

use flotilla_torrents::PieceIndex;
use rand::{Rng, RngExt as _};

/// Pieces in buckets by their number of copies. Each change is a few steps, whatever the number of pieces.
#[derive(Debug)]
pub(super) struct RarityIndex {
    buckets: Vec<Vec<PieceIndex>>,
    /// Where a piece lies within its bucket, if it is in one.
    places: Vec<Option<usize>>,
    copies: Vec<u32>,
}

impl RarityIndex {
    /// No piece may be asked for, and no peer holds one.
    pub(super) fn new(pieces: usize) -> Self {
        Self {
            buckets: Vec::new(),
            places: vec![None; pieces],
            copies: vec![0; pieces],
        }
    }

    /// Peers known to hold `piece`.
    pub(super) fn copies(&self, piece: PieceIndex) -> u32 {
        self.copies.get(at(piece)).copied().unwrap_or(0)
    }

    /// `change` more copies, or fewer.
    pub(super) fn change_copies(&mut self, piece: PieceIndex, change: i32) {
        let is_in = self.remove(piece);
        if let Some(copies) = self.copies.get_mut(at(piece)) {
            *copies = copies.saturating_add_signed(change);
        }
        if is_in {
            self.insert(piece);
        }
    }

    /// `piece` may be asked for.
    pub(super) fn insert(&mut self, piece: PieceIndex) {
        let copies = usize::try_from(self.copies(piece)).unwrap_or(usize::MAX);
        let Some(place @ None) = self.places.get_mut(at(piece)) else {
            return;
        };
        if self.buckets.len() <= copies {
            self.buckets.resize_with(copies.saturating_add(1), Vec::new);
        }
        if let Some(bucket) = self.buckets.get_mut(copies) {
            *place = Some(bucket.len());
            bucket.push(piece);
        }
    }

    /// `piece` may not be asked for any more; false if it might not before.
    pub(super) fn remove(&mut self, piece: PieceIndex) -> bool {
        let Some(place) = self.places.get_mut(at(piece)).and_then(Option::take) else {
            return false;
        };
        let copies = usize::try_from(self.copies(piece)).unwrap_or(usize::MAX);
        if let Some(bucket) = self.buckets.get_mut(copies) {
            bucket.swap_remove(place);
            if let Some(moved) = bucket.get(place).copied()
                && let Some(its_place) = self.places.get_mut(at(moved))
            {
                *its_place = Some(place);
            }
        }
        true
    }

    /// The rarest piece that `suits`; each of the same rarity is as likely as the others, as far as
    /// those that do not suit are evenly among them.
    pub(super) fn rarest(
        &self,
        suits: impl Fn(PieceIndex) -> bool,
        rng: &mut impl Rng,
    ) -> Option<PieceIndex> {
        // What no peer holds cannot be asked for.
        let held = self.buckets.iter().skip(1);
        held.filter(|bucket| !bucket.is_empty()).find_map(|bucket| {
            let start = rng.random_range(0..bucket.len());
            let (before, after) = bucket.split_at_checked(start)?;
            after
                .iter()
                .chain(before)
                .copied()
                .find(|piece| suits(*piece))
        })
    }
}

fn at(piece: PieceIndex) -> usize {
    usize::try_from(piece.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flotilla_torrents::Geometry;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    const PIECES: u32 = 12;

    proptest! {
        #[test]
        fn the_rarest_that_suits_is_found_whatever_happened_before(
            changes in prop::collection::vec((0..PIECES, 0_u8..4), 0..200),
            unsuitable in prop::collection::btree_set(0..PIECES, 0..6),
        ) {
            let geometry = Geometry::new(u64::from(PIECES) << 14, 1 << 14).unwrap();
            let mut index = RarityIndex::new(PIECES as usize);
            let (mut copies, mut inside) = ([0_u32; PIECES as usize], BTreeSet::new());
            for (piece, change) in changes {
                let piece = geometry.piece(piece).unwrap();
                let copies = &mut copies[piece.get() as usize];
                match change {
                    0 => {
                        index.insert(piece);
                        inside.insert(piece.get());
                    }
                    1 => prop_assert_eq!(index.remove(piece), inside.remove(&piece.get())),
                    2 => {
                        index.change_copies(piece, 1);
                        *copies += 1;
                    }
                    _ => {
                        index.change_copies(piece, -1);
                        *copies = copies.saturating_sub(1);
                    }
                }
            }
            let suits = |piece: &u32| !unsuitable.contains(piece) && copies[*piece as usize] > 0;
            let fewest = inside.iter().filter(|piece| suits(piece)).map(|piece| copies[*piece as usize]).min();
            let mut rng = SmallRng::seed_from_u64(1);
            let found = index.rarest(|piece| suits(&piece.get()), &mut rng);
            prop_assert_eq!(found.map(|piece| copies[piece.get() as usize]), fewest);
            prop_assert!(found.is_none_or(|piece| inside.contains(&piece.get()) && suits(&piece.get())));
        }
    }
}
