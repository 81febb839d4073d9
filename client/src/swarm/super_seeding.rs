//! The origin decides which piece it sends to which peer.
//!
//! A seeder that shows all it has sends some pieces twice before others once, and the
//! slowest first copy ends last. So the origin shows each piece to one peer, the one with
//! the fewest pieces on their way, and shows second copies only while its uplink would idle
//! (the idea of BEP 16, kept for cooperative nodes).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use flotilla_torrents::PieceIndex;

use super::peer::{Offer, Peer, PeerKey};
use super::piece_picker::PiecePicker;

/// Pieces shown to a peer ahead of what it has received: one under way, two to follow.
const MIN_OFFERS: usize = 3;
/// Bounds what one fast peer can hold back from the others.
const MAX_OFFERS: usize = 64;
/// Time at the peer's rate that the offers have to cover.
const OFFER_TIME: Duration = Duration::from_millis(250);
/// An offer that was not even asked for within this time goes to another peer.
const OFFER_EXPIRY: Duration = Duration::from_secs(2);

/// No piece came for this long although the uplink was free: the source pauses.
const SOURCE_PAUSE: Duration = Duration::from_millis(250);

/// Which peer was shown which piece.
#[derive(Debug)]
pub(super) struct SuperSeeder {
    /// Pieces that no peer was shown yet (or whose only holder-to-be went away), oldest first.
    unsent: VecDeque<PieceIndex>,
    piece_length: u32,
    /// The peer that was served last, so that equals take turns.
    last: Option<PeerKey>,
    /// Since when the uplink has had nothing to do.
    idle_since: Option<Instant>,
}

impl SuperSeeder {
    pub(super) fn new(held: impl Iterator<Item = PieceIndex>, piece_length: u32) -> Self {
        Self {
            unsent: held.collect(),
            piece_length,
            last: None,
            idle_since: None,
        }
    }

    /// A new piece can be shown.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        self.unsent.push_back(piece);
    }

    /// A peer went away: what only it was shown is unsent again.
    pub(super) fn take_back(&mut self, offers: &[Offer], picker: &PiecePicker) {
        for offer in offers {
            if picker.copies(offer.piece) == 0 && !self.unsent.contains(&offer.piece) {
                self.unsent.push_front(offer.piece);
            }
        }
    }

    /// Takes back the offers that their peers do not ask for.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        peers: &mut BTreeMap<PeerKey, Peer>,
        picker: &PiecePicker,
    ) {
        for peer in peers.values_mut() {
            let uploads = &peer.uploads;
            let (kept, expired): (Vec<_>, Vec<_>) = peer.offers.iter().partition(|offer| {
                now.saturating_duration_since(offer.since) < OFFER_EXPIRY
                    || uploads.iter().any(|block| block.piece == offer.piece)
            });
            peer.offers = kept;
            self.take_back(&expired, picker);
        }
    }

    /// The next piece to show, and the peer that sees it. `idle`: the uplink has nothing else to do.
    /// While the layer still arrives, a second copy would delay the first copy of the piece
    /// that comes next, so it waits for a pause of the source.
    pub(super) fn next_offer(
        &mut self,
        now: Instant,
        idle: bool,
        peers: &mut BTreeMap<PeerKey, Peer>,
        picker: &PiecePicker,
    ) -> Option<(PeerKey, PieceIndex)> {
        let since = *self.idle_since.get_or_insert(now);
        if !idle {
            self.idle_since = None;
        }
        let paused = picker.is_complete() || now.saturating_duration_since(since) > SOURCE_PAUSE;
        let offer = self.first_copy(peers).or_else(|| {
            if idle && paused {
                self.further_copy(peers, picker)
            } else {
                None
            }
        })?;
        self.last = Some(offer.0);
        let peer = peers.get_mut(&offer.0)?;
        peer.offers.push(Offer {
            piece: offer.1,
            since: now,
        });
        Some(offer)
    }

    fn first_copy(&mut self, peers: &BTreeMap<PeerKey, Peer>) -> Option<(PeerKey, PieceIndex)> {
        while let Some(piece) = self.unsent.front().copied() {
            let mut own = peers.values().filter(|peer| !peer.traits.stranger);
            if own.any(|peer| peer.has.has(piece)) {
                self.unsent.pop_front();
                continue;
            }
            let key = self.freest(peers, |peer| self.has_room(peer) && lacks(peer, piece))?;
            self.unsent.pop_front();
            return Some((key, piece));
        }
        None
    }

    /// The rarest piece for the freest peer; pieces already under way to a peer count as
    /// copies.
    fn further_copy(
        &self,
        peers: &BTreeMap<PeerKey, Peer>,
        picker: &PiecePicker,
    ) -> Option<(PeerKey, PieceIndex)> {
        let key = self.freest(peers, |peer| peer.offers.is_empty() && !peer.has.is_full())?;
        let peer = peers.get(&key)?;
        let piece = picker
            .held()
            .iter_set()
            .filter(|piece| lacks(peer, *piece))
            .min_by_key(|piece| {
                let offered = peers.values().flat_map(|peer| &peer.offers);
                picker.copies(*piece).saturating_add(
                    u32::try_from(offered.filter(|offer| offer.piece == *piece).count())
                        .unwrap_or(u32::MAX),
                )
            })?;
        Some((key, piece))
    }

    /// The peer with the fewest offers that `suits`; equals in turn.
    fn freest(
        &self,
        peers: &BTreeMap<PeerKey, Peer>,
        suits: impl Fn(&Peer) -> bool,
    ) -> Option<PeerKey> {
        peers
            .iter()
            .filter(|(_, peer)| peer.traits.authorized && !peer.traits.stranger && suits(peer))
            .min_by_key(|(key, peer)| {
                (
                    peer.offers.len(),
                    self.last.is_some_and(|last| **key <= last),
                    **key,
                )
            })
            .map(|(key, _)| *key)
    }

    fn has_room(&self, peer: &Peer) -> bool {
        let covered = peer.sent.bytes_in(OFFER_TIME) / u64::from(self.piece_length.max(1));
        let room = MIN_OFFERS.saturating_add(usize::try_from(covered).unwrap_or(usize::MAX));
        peer.offers.len() < room.min(MAX_OFFERS)
    }
}

fn lacks(peer: &Peer, piece: PieceIndex) -> bool {
    !peer.has.has(piece) && !peer.offers.iter().any(|offer| offer.piece == piece)
}
