//! Reads a layer in order while it arrives.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flotilla_torrents::PieceIndex;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::blocking::blocking_read;
use crate::engine::piece_reader::PieceReader;
use crate::engine::running_swarm::{SwarmState, SwarmStatus};
use crate::engine::swarm_handle::SwarmHandle;
use crate::store::{DamagedPiece, Lease};

/// Bytes read at a time of what is not in memory.
const PART: u64 = 256 * 1024;
/// The swarm moves, yet this reader's piece does not come.
const STARVATION_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a waiting reader looks at the clock.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a reader ends before its range does. The caller continues at
/// [`LayerReader::position`] from the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The missing pieces do not come.
    #[error("the swarm stalled: {0}")]
    Stalled(&'static str),
    /// The content cannot be delivered by the swarm.
    #[error("the swarm is void: {0}")]
    Void(String),
    /// Bytes that were read are wrong, as the source gave them: what would follow is of no use.
    #[error("the source gave wrong bytes in piece {piece}, which was read already: {reason}")]
    Wrong {
        /// The first piece that is wrong.
        piece: PieceIndex,
        /// What the whole turned out to be.
        reason: String,
    },
    /// The disk failed.
    #[error("reading the layer: {0}")]
    Disk(#[from] std::io::Error),
}

/// A stream of the verified bytes of a range, in order.
pub struct LayerReader {
    position: u64,
    parts: BoxStream<'static, Result<Bytes, ReadError>>,
}

impl std::fmt::Debug for LayerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerReader")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl SwarmHandle {
    /// Verified bytes of `range`, in order, as they come.
    pub fn read(&self, range: std::ops::Range<u64>) -> LayerReader {
        LayerReader::new(self.clone(), range)
    }
}

impl LayerReader {
    fn new(swarm: SwarmHandle, range: Range<u64>) -> Self {
        let end = range.end.min(swarm.geometry().length());
        let cursor = Cursor {
            number: swarm.reader_number(),
            status: swarm.watch(),
            _lease: swarm.layer().lease(),
            pieces: swarm.pieces(),
            swarm,
            ready: VecDeque::new(),
            start: range.start,
            position: range.start,
            end,
        };
        let parts = stream::try_unfold(cursor, |mut cursor| async move {
            Ok(cursor.next().await?.map(|part| (part, cursor)))
        });
        Self {
            position: range.start,
            parts: Box::pin(parts),
        }
    }

    /// Reads what is in memory.
    pub(crate) fn of_bytes(bytes: &Bytes, range: Range<u64>) -> Self {
        let at = |offset| usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        let (start, end) = (at(range.start), at(range.end));
        let part = bytes.slice(start..end.max(start));
        let parts = (!part.is_empty()).then_some(Ok(part));
        Self {
            position: range.start,
            parts: Box::pin(stream::iter(parts)),
        }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Stream for LayerReader {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.parts.as_mut().poll_next(context);
        if let Poll::Ready(Some(Ok(part))) = &polled {
            self.position += part.len() as u64;
        }
        polled
    }
}

struct Cursor {
    swarm: SwarmHandle,
    status: watch::Receiver<SwarmStatus>,
    pieces: PieceReader,
    number: u64,
    /// Bytes before `position` that were not handed out yet.
    ready: VecDeque<Bytes>,
    start: u64,
    position: u64,
    end: u64,
    _lease: Lease,
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(part) = self.ready.pop_front() {
            return Ok(Some(part));
        }
        while self.position < self.end {
            self.check_what_was_read()?;
            let Some(piece) = self.swarm.geometry().piece_at(self.position) else {
                return Ok(None);
            };
            self.wait_for(piece).await?;
            if let Some(bytes) = self.hot(piece) {
                return Ok(Some(bytes));
            }
            if let Some(bytes) = self.read(piece).await? {
                self.position += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Whether the swarm has turned out to be wrong before what comes next.
    fn check_what_was_read(&self) -> Result<(), ReadError> {
        let Some(piece) = self.swarm.first_wrong() else {
            return Ok(());
        };
        let has_read =
            self.position > self.swarm.geometry().piece_offset(piece) && self.position > self.start;
        match self.swarm.status().state {
            SwarmState::Void(reason) if has_read => Err(ReadError::Wrong { piece, reason }),
            _ => Ok(()),
        }
    }

    async fn wait_for(&mut self, piece: PieceIndex) -> Result<(), ReadError> {
        let layer = Arc::clone(self.swarm.layer());
        let wrong = self.swarm.first_wrong();
        if wrong.is_none_or(|wrong| piece < wrong) && layer.has(piece) {
            return Ok(());
        }
        self.swarm.reader_at(self.number, Some(piece));
        let starving = tokio::time::Instant::now() + STARVATION_TIMEOUT;
        loop {
            let status = self.status.borrow_and_update().clone();
            if let SwarmState::Void(reason) = status.state {
                return Err(ReadError::Void(reason));
            }
            if layer.has(piece) {
                return Ok(());
            }
            if let Some(reason) = self.swarm.stalled() {
                return Err(ReadError::Stalled(reason));
            }
            if tokio::time::Instant::now() > starving {
                return Err(ReadError::Stalled("the next piece does not come"));
            }
            let _ = tokio::time::timeout(POLL_INTERVAL, self.status.changed()).await;
        }
    }

    /// The next bytes of a piece that is in memory. The rest of it is ready then.
    fn hot(&mut self, piece: PieceIndex) -> Option<Bytes> {
        let data = self.pieces.hot_piece(piece)?;
        let range = self.swarm.geometry().piece_range(piece);
        let at = |offset: u64| usize::try_from(offset - range.start).unwrap_or(usize::MAX);
        let end = range.end.min(self.end);
        self.ready.extend(data.slice(at(self.position)..at(end)));
        self.position = end;
        self.ready.pop_front()
    }

    /// The next bytes of `piece`; none when the disk has lost it, and peers are asked for it.
    async fn read(&self, piece: PieceIndex) -> Result<Option<Bytes>, ReadError> {
        let end = self.swarm.geometry().piece_range(piece).end.min(self.end);
        let part = end.min(self.position + PART) - self.position;
        let (layer, offset) = (Arc::clone(self.swarm.layer()), self.position);
        let length = usize::try_from(part).unwrap_or(usize::MAX);
        let error = match blocking_read(move || layer.read(offset, length)).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) => error,
        };
        let Some(DamagedPiece {
            piece: lost,
            is_repairable,
            ..
        }) = DamagedPiece::of(&error)
        else {
            // Another reader may have found the damage in between.
            return if self.swarm.layer().has(piece) {
                Err(error.into())
            } else {
                Ok(None)
            };
        };
        self.swarm.lost(*lost, *is_repairable).await;
        Ok(None)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.swarm.reader_at(self.number, None);
    }
}
