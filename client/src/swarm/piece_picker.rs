//! Which piece to ask a peer for.
//!
//! Each piece is in exactly one [`PieceState`]. Inside a reader's window pieces are picked in
//! order; outside it the rarest first, at random among equals.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_torrents::{Bitfield, Block, Geometry, PieceIndex};
use rand::{Rng, RngExt as _};

use super::peer::PeerKey;

/// Every block is a run of these: the request size that all clients serve (BEP 3).
const UNIT: u32 = 16 * 1024;

/// Exactly one of these is true of a piece.
#[derive(Debug)]
enum PieceState {
    /// It is not needed here.
    Unneeded,
    /// No peer was asked for it.
    Wanted,
    /// Blocks are asked for or received.
    Fetching(Fetch),
    /// All blocks are here; the driver compares the hash.
    Checking { contributors: Vec<PeerKey> },
    /// Verified and stored.
    Held,
}

#[derive(Debug)]
struct Fetch {
    units: Vec<Unit>,
    /// The peer that is asked for the rest of the piece; none after it went away.
    owner: Option<PeerKey>,
    contributors: Vec<PeerKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Missing,
    Requested(u8),
    Received,
}

/// What became of a block that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is held already, or was not asked for: throw it away.
    Useless,
    /// Keep it; the piece is not complete.
    Kept,
    /// Keep it; it was the last one of its piece.
    Completed,
}

/// The picker of one swarm.
#[derive(Debug)]
pub(super) struct PiecePicker {
    geometry: Geometry,
    states: Vec<PieceState>,
    copies: Vec<u32>,
    /// Pieces below this index have a published hash and can be verified.
    known: u32,
    held: Bitfield,
    /// Pieces that are needed and not held.
    missing: u32,
    /// Those of [`PieceState::Fetching`], few among up to a million.
    under_way: BTreeSet<PieceIndex>,
    /// The number of those and of the ones being checked.
    fetching: u32,
    readers: BTreeMap<u64, PieceIndex>,
    window: u32,
}

impl PiecePicker {
    pub(super) fn new(geometry: Geometry, held: Bitfield, window: u32) -> Self {
        let states = geometry
            .pieces()
            .map(|piece| {
                if held.has(piece) {
                    PieceState::Held
                } else {
                    PieceState::Wanted
                }
            })
            .collect::<Vec<_>>();
        let copies = vec![0; states.len()];
        Self {
            geometry,
            states,
            copies,
            known: 0,
            missing: geometry.piece_count().saturating_sub(held.count()),
            held,
            under_way: BTreeSet::new(),
            fetching: 0,
            readers: BTreeMap::new(),
            window,
        }
    }

    pub(super) fn held(&self) -> &Bitfield {
        &self.held
    }

    /// Whether everything that is needed is held.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Whether the piece is still to come.
    pub(super) fn needs(&self, piece: PieceIndex) -> bool {
        let state = self.states.get(at(piece));
        !matches!(state, None | Some(PieceState::Held | PieceState::Unneeded))
    }

    /// Only these pieces are needed, of those that no peer was asked for.
    pub(super) fn need_only(&mut self, wanted: &Bitfield) {
        for (piece, state) in self.geometry.pieces().zip(&mut self.states) {
            if matches!(state, PieceState::Wanted) && !wanted.has(piece) {
                *state = PieceState::Unneeded;
                self.missing = self.missing.saturating_sub(1);
            }
        }
    }

    pub(super) fn set_known(&mut self, known: u32) {
        self.known = self.known.max(known.min(self.geometry.piece_count()));
    }

    pub(super) fn add_copy(&mut self, piece: PieceIndex) {
        if let Some(copies) = self.copies.get_mut(at(piece)) {
            *copies = copies.saturating_add(1);
        }
    }

    pub(super) fn remove_copy(&mut self, piece: PieceIndex) {
        if let Some(copies) = self.copies.get_mut(at(piece)) {
            *copies = copies.saturating_sub(1);
        }
    }

    /// Peers known to hold `piece`.
    pub(super) fn copies(&self, piece: PieceIndex) -> u32 {
        self.copies.get(at(piece)).copied().unwrap_or(0)
    }

    /// Bytes of memory that pieces under way may take.
    pub(super) fn fetching_bytes(&self) -> u64 {
        u64::from(self.fetching) * u64::from(self.geometry.piece_length())
    }

    pub(super) fn set_reader(&mut self, reader: u64, next: Option<PieceIndex>) {
        match next {
            Some(piece) => self.readers.insert(reader, piece),
            None => self.readers.remove(&reader),
        };
    }

    /// The next block to ask `peer` for, now marked as requested: the rest of a piece it is
    /// already asked for, then a piece that lost its owner, then a fresh one.
    pub(super) fn pick(
        &mut self,
        peer: PeerKey,
        has: &Bitfield,
        block_length: u32,
        may_start: bool,
        rng: &mut impl Rng,
    ) -> Option<Block> {
        let piece = self
            .continuing(|_, fetch| fetch.owner == Some(peer))
            .or_else(|| self.continuing(|piece, fetch| fetch.owner.is_none() && has.has(piece)))
            .or_else(|| {
                if may_start {
                    self.fresh(has, rng)
                } else {
                    None
                }
            })?;
        self.start(piece);
        let PieceState::Fetching(fetch) = self.states.get_mut(at(piece))? else {
            return None;
        };
        fetch.owner = Some(peer);
        let size = self.geometry.piece_size(piece);
        let first = fetch.units.iter().position(|unit| *unit == Unit::Missing)?;
        let run = fetch
            .units
            .iter()
            .skip(first)
            .take(usize::try_from(block_length / UNIT).unwrap_or(1).max(1))
            .take_while(|unit| **unit == Unit::Missing)
            .count();
        for unit in fetch.units.iter_mut().skip(first).take(run) {
            *unit = Unit::Requested(1);
        }
        let offset = u32::try_from(first).ok()?.checked_mul(UNIT)?;
        let length = u32::try_from(run)
            .ok()?
            .checked_mul(UNIT)?
            .min(size.checked_sub(offset)?);
        Some(Block {
            piece,
            offset,
            length,
        })
    }

    /// Marks `block`, which another peer is late with, as asked for once more.
    /// False when it is no longer worth it.
    pub(super) fn duplicate(&mut self, block: Block) -> bool {
        let Some(PieceState::Fetching(fetch)) = self.states.get_mut(at(block.piece)) else {
            return false;
        };
        let wanted = units_of(block, fetch).all(|unit| *unit == Unit::Requested(1));
        if wanted {
            for unit in units_of(block, fetch) {
                *unit = Unit::Requested(2);
            }
        }
        wanted
    }

    /// A request will not be answered (rejected, cancelled, its peer is gone).
    pub(super) fn unrequest(&mut self, peer: PeerKey, block: Block) {
        let Some(PieceState::Fetching(fetch)) = self.states.get_mut(at(block.piece)) else {
            return;
        };
        for unit in units_of(block, fetch) {
            *unit = match *unit {
                Unit::Requested(2..) => Unit::Requested(1),
                Unit::Requested(_) => Unit::Missing,
                other => other,
            };
        }
        if fetch.owner == Some(peer) {
            fetch.owner = None;
        }
        if fetch.units.iter().all(|unit| *unit == Unit::Missing) {
            self.restart(block.piece);
        }
    }

    pub(super) fn arrived(&mut self, peer: PeerKey, block: Block) -> Arrival {
        let Some(PieceState::Fetching(fetch)) = self.states.get_mut(at(block.piece)) else {
            return Arrival::Useless;
        };
        let mut fresh = false;
        for unit in units_of(block, fetch) {
            fresh |= *unit != Unit::Received;
            *unit = Unit::Received;
        }
        if !fresh {
            return Arrival::Useless;
        }
        if !fetch.contributors.contains(&peer) {
            fetch.contributors.push(peer);
        }
        if fetch.units.iter().any(|unit| *unit != Unit::Received) {
            return Arrival::Kept;
        }
        let contributors = std::mem::take(&mut fetch.contributors);
        self.under_way.remove(&block.piece);
        if let Some(state) = self.states.get_mut(at(block.piece)) {
            *state = PieceState::Checking { contributors };
        }
        Arrival::Completed
    }

    /// The piece was verified and stored; false when it was held before.
    pub(super) fn hold(&mut self, piece: PieceIndex) -> bool {
        if !self.held.set(piece) {
            return false;
        }
        if let Some(state) = self.states.get_mut(at(piece)) {
            if matches!(state, PieceState::Fetching(_) | PieceState::Checking { .. }) {
                self.fetching = self.fetching.saturating_sub(1);
            }
            if !matches!(state, PieceState::Unneeded) {
                self.missing = self.missing.saturating_sub(1);
            }
            *state = PieceState::Held;
        }
        self.under_way.remove(&piece);
        true
    }

    /// The piece is held no more, and needed; false when it was not held.
    pub(super) fn lose(&mut self, piece: PieceIndex) -> bool {
        if !self.held.has(piece) {
            return false;
        }
        self.held.clear(piece);
        if let Some(state) = self.states.get_mut(at(piece)) {
            *state = PieceState::Wanted;
        }
        self.missing = self.missing.saturating_add(1);
        // Its hash was published, or it would not have been held.
        self.set_known(piece.get().saturating_add(1));
        true
    }

    /// The piece has to be fetched again. Returns the peers that contributed to it.
    pub(super) fn reset(&mut self, piece: PieceIndex) -> Vec<PeerKey> {
        let contributors = match self.states.get_mut(at(piece)) {
            Some(PieceState::Checking { contributors }) => std::mem::take(contributors),
            _ => return Vec::new(),
        };
        self.restart(piece);
        contributors
    }

    fn restart(&mut self, piece: PieceIndex) {
        self.under_way.remove(&piece);
        if let Some(state) = self.states.get_mut(at(piece)) {
            *state = PieceState::Wanted;
            self.fetching = self.fetching.saturating_sub(1);
        }
    }

    fn start(&mut self, piece: PieceIndex) {
        if let Some(state @ PieceState::Wanted) = self.states.get_mut(at(piece)) {
            let units = self.geometry.piece_size(piece).div_ceil(UNIT);
            *state = PieceState::Fetching(Fetch {
                units: vec![Unit::Missing; usize::try_from(units).unwrap_or(0)],
                owner: None,
                contributors: Vec::new(),
            });
            self.fetching += 1;
            self.under_way.insert(piece);
        }
    }

    /// The first piece under way whose missing blocks may be asked for.
    fn continuing(&self, suits: impl Fn(PieceIndex, &Fetch) -> bool) -> Option<PieceIndex> {
        let mut under_way = self.under_way.iter().copied();
        under_way.find(|piece| match self.states.get(at(*piece)) {
            Some(PieceState::Fetching(fetch)) => {
                suits(*piece, fetch) && fetch.units.contains(&Unit::Missing)
            }
            _ => false,
        })
    }

    fn fresh(&self, has: &Bitfield, rng: &mut impl Rng) -> Option<PieceIndex> {
        self.next_in_window(has).or_else(|| self.rarest(has, rng))
    }

    fn is_wanted(&self, piece: PieceIndex) -> bool {
        piece.get() < self.known && matches!(self.states.get(at(piece)), Some(PieceState::Wanted))
    }

    fn next_in_window(&self, has: &Bitfield) -> Option<PieceIndex> {
        self.readers.values().find_map(|next| {
            let window = next.get()..next.get().saturating_add(self.window).min(self.known);
            self.geometry
                .pieces_in(window)
                .find(|piece| has.has(*piece) && self.is_wanted(*piece))
        })
    }

    fn rarest(&self, has: &Bitfield, rng: &mut impl Rng) -> Option<PieceIndex> {
        let mut best: Option<(u32, PieceIndex)> = None;
        let mut equals = 0_u32;
        for piece in self.geometry.pieces_in(0..self.known) {
            if !self.is_wanted(piece) || !has.has(piece) {
                continue;
            }
            let copies = self.copies(piece);
            match best {
                Some((fewest, _)) if copies > fewest => {}
                // Reservoir of one: every piece of the same rarity is equally likely.
                Some((fewest, _)) if copies == fewest => {
                    equals += 1;
                    if rng.random_range(0..equals) == 0 {
                        best = Some((copies, piece));
                    }
                }
                _ => {
                    equals = 1;
                    best = Some((copies, piece));
                }
            }
        }
        best.map(|(_, piece)| piece)
    }
}

fn at(piece: PieceIndex) -> usize {
    usize::try_from(piece.get()).unwrap_or(usize::MAX)
}

fn units_of(block: Block, fetch: &mut Fetch) -> impl Iterator<Item = &mut Unit> {
    let first = usize::try_from(block.offset / UNIT).unwrap_or(usize::MAX);
    let count = usize::try_from(block.length.div_ceil(UNIT)).unwrap_or(0);
    fetch.units.iter_mut().skip(first).take(count)
}
