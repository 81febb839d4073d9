//! Spans of the pieces that arrive while requests wait for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use flotilla_torrents::{PeerId, PieceIndex};
use parking_lot::Mutex;
use tracing::Span;

use super::TARGET;

/// Pieces that the trace of one request lists; the others are counted.
const MAX_PIECES: u64 = 4096;
/// Requests of one swarm that trace pieces at the same time.
const MAX_WAITING: usize = 32;

/// A traced request that waits for a swarm, as long as this lives.
#[derive(Debug)]
pub struct Waiting {
    request: Span,
    pieces: AtomicU64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let pieces = self.pieces.load(Ordering::Relaxed);
        self.request
            .record("flotilla.pieces", super::number(pieces));
        let left_out = pieces.saturating_sub(MAX_PIECES);
        if left_out > 0 {
            self.request
                .record("flotilla.pieces.without_span", super::number(left_out));
        }
    }
}

/// Those that wait for one swarm.
#[derive(Debug, Default)]
pub struct PieceTraces {
    /// Mostly no request waits: a piece then costs this load.
    has_any: AtomicBool,
    waiting: Mutex<Vec<Weak<Waiting>>>,
}

impl PieceTraces {
    /// Tells `request` of pieces from now on. None: it is not traced.
    pub fn wait(&self, request: Span) -> Option<Arc<Waiting>> {
        if !super::traceparent_of(&request).is_some_and(|name| name.is_sampled) {
            return None;
        }
        let mut waiting = self.waiting.lock();
        waiting.retain(|waiting| waiting.strong_count() > 0);
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        let new = Arc::new(Waiting {
            request,
            pieces: AtomicU64::new(0),
        });
        waiting.push(Arc::downgrade(&new));
        self.has_any.store(true, Ordering::Relaxed);
        Some(new)
    }

    /// The first block of a piece of `bytes` is here, from `from`.
    pub fn begin(&self, piece: PieceIndex, bytes: u32, from: PieceSender) -> PieceArrival {
        if !self.has_any.load(Ordering::Relaxed) {
            return PieceArrival::default();
        }
        let mut waiting = self.waiting.lock();
        waiting.retain(|waiting| waiting.strong_count() > 0);
        self.has_any.store(!waiting.is_empty(), Ordering::Relaxed);
        let waiting: Vec<_> = waiting.iter().filter_map(Weak::upgrade).collect();
        let spans = waiting.iter().filter_map(|waiting| {
            let before = waiting.pieces.fetch_add(1, Ordering::Relaxed);
            (before < MAX_PIECES).then(|| {
                tracing::info_span!(
                    target: TARGET,
                    parent: &waiting.request,
                    "piece",
                    flotilla.piece.index = i64::from(piece.get()),
                    flotilla.piece.bytes = i64::from(bytes),
                    flotilla.piece.from = tracing::field::Empty,
                    flotilla.piece.verified = tracing::field::Empty,
                )
            })
        });
        PieceArrival {
            spans: spans.collect(),
            senders: Some(from),
        }
    }
}

/// The sender of a piece, or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceSender {
    /// A supernode.
    Supernode,
    /// One node.
    Peer(PeerId),
    /// More than one peer.
    Several,
}

/// A piece on its way.
#[derive(Debug, Default)]
pub struct PieceArrival {
    spans: Vec<Span>,
    senders: Option<PieceSender>,
}

impl PieceArrival {
    /// A further block comes from `from`.
    pub fn goes_on(&mut self, from: PieceSender) {
        if self.senders.is_some_and(|senders| senders != from) {
            self.senders = Some(PieceSender::Several);
        }
    }

    /// The piece was compared with its hash.
    pub fn checked(self, is_verified: bool) {
        for span in self.spans {
            match self.senders {
                Some(PieceSender::Supernode) => span.record("flotilla.piece.from", "supernode"),
                Some(PieceSender::Peer(peer)) => {
                    span.record("flotilla.piece.from", tracing::field::display(peer))
                }
                _ => span.record("flotilla.piece.from", "several"),
            };
            span.record("flotilla.piece.verified", is_verified);
        }
    }
}
