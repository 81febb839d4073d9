//! Which piece to ask a peer for.
//!
//! Each piece is in exactly one [`PieceState`]. Inside a reader's window pieces are picked in
//! order; outside it the rarest first, at random among equals.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_torrents::{Bitfield, Block, Geometry, PieceIndex};
use rand::Rng;

use super::peer::PeerKey;
use super::rarity::RarityIndex;

/// Every block is a run of these: the request size that all clients serve (BEP 3).
const UNIT: u32 = 16 * 1024;

/// Late peers for which a block is asked of one more.
const MAX_DUPLICATES: u8 = 8;

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
    /// The known pieces that are wanted.
    rarity: RarityIndex,
    /// Pieces below this index have a published hash and can be verified.
    known: u32,
    held: Bitfield,
    /// Pieces that are needed and not held.
    missing: u32,
    /// Those of [`PieceState::Fetching`] with blocks that no peer was asked for.
    unfinished: BTreeSet<PieceIndex>,
    /// How often something became free to ask for that was not before.
    openings: u64,
    /// Pieces being fetched or checked.
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
        Self {
            geometry,
            rarity: RarityIndex::new(states.len()),
            states,
            known: 0,
            missing: geometry.piece_count().saturating_sub(held.count()),
            held,
            unfinished: BTreeSet::new(),
            openings: 0,
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

    /// Whether all that is missing was asked for: the end game.
    pub(super) fn is_all_asked_for(&self) -> bool {
        self.missing == self.fetching && self.unfinished.is_empty()
    }

    /// Whether a peer that holds the piece may be asked for some of it.
    pub(super) fn is_open(&self, piece: PieceIndex) -> bool {
        self.is_wanted(piece) || self.unfinished.contains(&piece)
    }

    /// Only these pieces are needed, of those that no peer was asked for.
    pub(super) fn need_only(&mut self, wanted: &Bitfield) {
        for (piece, state) in self.geometry.pieces().zip(&mut self.states) {
            if matches!(state, PieceState::Wanted) && !wanted.has(piece) {
                *state = PieceState::Unneeded;
                self.rarity.remove(piece);
                self.missing = self.missing.saturating_sub(1);
            }
        }
    }

    /// The first `known` pieces can be verified.
    pub(super) fn set_known(&mut self, known: u32) {
        let before = self.known;
        self.known = before.max(known.min(self.geometry.piece_count()));
        for piece in self.geometry.pieces_in(before..self.known) {
            self.open(piece);
        }
    }

    pub(super) fn add_copy(&mut self, piece: PieceIndex) {
        self.rarity.change_copies(piece, 1);
    }

    pub(super) fn remove_copy(&mut self, piece: PieceIndex) {
        self.rarity.change_copies(piece, -1);
    }

    /// Peers known to hold `piece`.
    pub(super) fn copies(&self, piece: PieceIndex) -> u32 {
        self.rarity.copies(piece)
    }

    /// Grows whenever something that a peer holds may be asked for that might not before: until then a
    /// peer for which nothing was picked need not be looked at again.
    pub(super) fn openings(&self) -> u64 {
        self.openings
    }

    /// A piece that is wanted and known may be asked for.
    fn open(&mut self, piece: PieceIndex) {
        if self.is_wanted(piece) {
            self.rarity.insert(piece);
            if self.rarity.copies(piece) > 0 {
                self.openings += 1;
            }
        }
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
        if !fetch.units.contains(&Unit::Missing) {
            self.unfinished.remove(&piece);
        }
        Some(Block {
            piece,
            offset,
            length,
        })
    }

    /// Marks `block`, with which `late` peers are late, as asked for once more. False when a part of
    /// it has arrived, or when a peer that is not late was asked for it too.
    pub(super) fn duplicate(&mut self, block: Block, late: u8) -> bool {
        let Some(PieceState::Fetching(fetch)) = self.states.get_mut(at(block.piece)) else {
            return false;
        };
        let asked = units_of(block, fetch).map(|unit| match unit {
            Unit::Requested(times) => Some(*times),
            Unit::Missing | Unit::Received => None,
        });
        let Some(asked) = asked.collect::<Option<Vec<u8>>>() else {
            return false;
        };
        let asked = asked.into_iter().max().unwrap_or(u8::MAX);
        let worth = asked <= late.min(MAX_DUPLICATES);
        if worth {
            for unit in units_of(block, fetch) {
                *unit = Unit::Requested(asked.saturating_add(1));
            }
        }
        worth
    }

    /// A request will not be answered (rejected, cancelled, its peer is gone).
    pub(super) fn unrequest(&mut self, peer: PeerKey, block: Block) {
        let Some(PieceState::Fetching(fetch)) = self.states.get_mut(at(block.piece)) else {
            return;
        };
        for unit in units_of(block, fetch) {
            *unit = match *unit {
                Unit::Requested(asked @ 2..) => Unit::Requested(asked - 1),
                Unit::Requested(_) => Unit::Missing,
                other => other,
            };
        }
        if fetch.owner == Some(peer) {
            fetch.owner = None;
        }
        if fetch.units.iter().all(|unit| *unit == Unit::Missing) {
            self.restart(block.piece);
        } else if fetch.units.contains(&Unit::Missing) {
            self.unfinished.insert(block.piece);
            self.openings += 1;
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
        self.unfinished.remove(&block.piece);
        if let Some(state) = self.states.get_mut(at(block.piece)) {
            *state = PieceState::Checking { contributors };
        }
        Arrival::Completed
    }

    /// The piece was verified and stored. Returns the peers that sent it; none when it was held before.
    pub(super) fn hold(&mut self, piece: PieceIndex) -> Option<Vec<PeerKey>> {
        if !self.held.set(piece) {
            return None;
        }
        self.rarity.remove(piece);
        self.unfinished.remove(&piece);
        let state = self.states.get_mut(at(piece))?;
        let before = std::mem::replace(state, PieceState::Held);
        if matches!(
            before,
            PieceState::Fetching(_) | PieceState::Checking { .. }
        ) {
            self.fetching = self.fetching.saturating_sub(1);
        }
        if !matches!(before, PieceState::Unneeded) {
            self.missing = self.missing.saturating_sub(1);
        }
        Some(match before {
            PieceState::Checking { contributors } => contributors,
            _ => Vec::new(),
        })
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
        self.open(piece);
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
        self.unfinished.remove(&piece);
        if let Some(state) = self.states.get_mut(at(piece)) {
            *state = PieceState::Wanted;
            self.fetching = self.fetching.saturating_sub(1);
        }
        self.open(piece);
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
            self.rarity.remove(piece);
            self.unfinished.insert(piece);
        }
    }

    /// The first unfinished piece whose missing blocks may be asked for.
    fn continuing(&self, suits: impl Fn(PieceIndex, &Fetch) -> bool) -> Option<PieceIndex> {
        let mut unfinished = self.unfinished.iter().copied();
        unfinished.find(|piece| match self.states.get(at(*piece)) {
            Some(PieceState::Fetching(fetch)) => suits(*piece, fetch),
            _ => false,
        })
    }

    fn fresh(&self, has: &Bitfield, rng: &mut impl Rng) -> Option<PieceIndex> {
        self.next_in_window(has)
            .or_else(|| self.rarity.rarest(|piece| has.has(piece), rng))
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
}

fn at(piece: PieceIndex) -> usize {
    usize::try_from(piece.get()).unwrap_or(usize::MAX)
}

fn units_of(block: Block, fetch: &mut Fetch) -> impl Iterator<Item = &mut Unit> {
    let first = usize::try_from(block.offset / UNIT).unwrap_or(usize::MAX);
    let count = usize::try_from(block.length.div_ceil(UNIT)).unwrap_or(0);
    fetch.units.iter_mut().skip(first).take(count)
}
