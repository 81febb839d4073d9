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
use super::rates::RoundTrip;
use super::upload_queue::UploadQueue;

/// Bytes shown ahead of what the uplink has sent, at least this and two pieces.
const MIN_OFFERED: u64 = 128 * 1024;
/// Time of the uplink that the offers have to cover beyond a round trip.
const OFFER_TIME: Duration = Duration::from_millis(150);
/// An offer that was not even asked for within this time and a round trip goes to another peer.
const OFFER_EXPIRY: Duration = Duration::from_secs(2);
/// A piece that was sent and not announced within this time goes to another peer.
const DELIVERY_EXPIRY: Duration = Duration::from_secs(20);
/// An offer that was not asked for within this time and a round trip leaves its room to another one.
const OFFER_PATIENCE: Duration = Duration::from_millis(300);

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
    /// From an offer to the request for it.
    round_trip: RoundTrip,
}

impl SuperSeeder {
    pub(super) fn new(
        held: impl Iterator<Item = PieceIndex>,
        piece_length: u32,
        now: Instant,
    ) -> Self {
        Self {
            unsent: held.collect(),
            piece_length,
            last: None,
            idle_since: None,
            round_trip: RoundTrip::new(now),
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

    /// `peer` asks for `piece`.
    pub(super) fn asked(&mut self, now: Instant, peer: &mut Peer, piece: PieceIndex) {
        peer.ignored_offers = 0;
        let offers = peer.offers.iter_mut().filter(|offer| offer.piece == piece);
        for offer in offers.filter(|offer| !offer.asked) {
            self.round_trip
                .record(now, now.saturating_duration_since(offer.since));
            offer.asked = true;
            offer.since = now;
        }
    }

    /// Takes back the offers that their peers do not ask for.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        peers: &mut BTreeMap<PeerKey, Peer>,
        picker: &PiecePicker,
    ) {
        let unasked = OFFER_EXPIRY + self.usual_wait();
        for peer in peers.values_mut().filter(|peer| !peer.offers.is_empty()) {
            let (uploads, in_socket) = (&peer.uploads, peer.in_socket > 0);
            let (kept, expired): (Vec<_>, Vec<_>) = peer.offers.iter().partition(|offer| {
                let waited = now.saturating_duration_since(offer.since);
                if !offer.asked {
                    return waited < unasked;
                }
                waited < DELIVERY_EXPIRY
                    || in_socket
                    || uploads.iter().any(|block| block.piece == offer.piece)
            });
            peer.offers = kept;
            peer.ignored_offers = peer
                .ignored_offers
                .saturating_add(u32::from(!expired.is_empty()));
            self.take_back(&expired, picker);
        }
    }

    /// The next piece to show, and the peer that sees it.
    /// While the layer still arrives, a second copy would delay the first copy of the piece
    /// that comes next, so it waits for a pause of the source.
    pub(super) fn next_offer(
        &mut self,
        now: Instant,
        uploads: &UploadQueue,
        peers: &mut BTreeMap<PeerKey, Peer>,
        picker: &PiecePicker,
    ) -> Option<(PeerKey, PieceIndex)> {
        let since = *self.idle_since.get_or_insert(now);
        let is_idle = uploads.is_idle(peers);
        if !is_idle {
            self.idle_since = None;
        }
        if !self.has_room(now, uploads, peers) {
            return None;
        }
        let paused = picker.is_complete() || now.saturating_duration_since(since) > SOURCE_PAUSE;
        let offer = self.first_copy(peers).or_else(|| {
            if is_idle && paused {
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
            asked: false,
        });
        Some(offer)
    }

    /// The offers follow what the uplink sends within a round trip and a little more: what is shown
    /// earlier waits for no use, and could have gone to a peer that is free by then.
    fn has_room(
        &self,
        now: Instant,
        uploads: &UploadQueue,
        peers: &BTreeMap<PeerKey, Peer>,
    ) -> bool {
        let patience = OFFER_PATIENCE + self.usual_wait();
        let offers = peers.values().flat_map(|peer| &peer.offers);
        let unasked = offers
            .filter(|offer| !offer.asked && now.saturating_duration_since(offer.since) < patience);
        let piece = u64::from(self.piece_length);
        let unasked = unasked.fold(0, |bytes: u64, _| bytes.saturating_add(piece));
        let requested = peers.values().flat_map(|peer| &peer.uploads);
        let requested = requested.map(|block| u64::from(block.length)).sum::<u64>();
        let room = uploads
            .bytes_in(self.usual_wait() + OFFER_TIME)
            .max(MIN_OFFERED.saturating_add(2 * piece));
        let ahead = uploads.queued(now).saturating_add(requested);
        ahead.saturating_add(unasked) < room
    }

    fn usual_wait(&self) -> Duration {
        self.round_trip.shortest().unwrap_or_default()
    }

    fn first_copy(&mut self, peers: &BTreeMap<PeerKey, Peer>) -> Option<(PeerKey, PieceIndex)> {
        while let Some(piece) = self.unsent.front().copied() {
            let mut own = peers.values().filter(|peer| !peer.traits.stranger);
            if own.any(|peer| peer.has.has(piece)) {
                self.unsent.pop_front();
                continue;
            }
            let key = self.freest(peers, |peer| lacks(peer, piece))?;
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
                    peer.ignored_offers,
                    peer.offers.len(),
                    self.last.is_some_and(|last| **key <= last),
                    **key,
                )
            })
            .map(|(key, _)| *key)
    }
}

fn lacks(peer: &Peer, piece: PieceIndex) -> bool {
    !peer.has.has(piece) && !peer.offers.iter().any(|offer| offer.piece == piece)
}
