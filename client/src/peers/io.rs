//! The two tasks of a connection: one reads messages for the swarm, one writes what the
//! swarm hands it.
//!
//! The bytes of a block are not copied between the socket and the piece: one buffer is read into, cut and
//! given on, and what is hot leaves from the same memory. [`Inbound`] and [`Outbound`] alone touch the
//! socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::{Message, MessageDecoder, PeerWireError, encode_piece_header};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::engine::input::Input;
use crate::engine::piece_reader::{PieceReader, ReadAhead};
use crate::peers::connection::NOT_SENT_LOW_WATER;
use crate::piece_data::PieceData;
use crate::store::DamagedPiece;
use crate::swarm::PeerKey;

/// BEP 3: keep-alives are generally sent once every two minutes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);
/// A connection that is silent for longer than two keep-alives is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(240);
/// Room for messages without a block: a flurry of haves or requests.
const SMALL_READ: usize = 16 * 1024;
/// Messages that are gathered before they are written.
const MAX_GATHERED: usize = 64 * 1024;
/// The kernel may hold what leaves within this, unsent: on a fast link more than on a slow one, or the
/// writer is woken for each part of a block.
const UNSENT_MILLIS: u64 = 2;
/// Most of it: with 10 Gbit/s.
const MAX_LOW_WATER: u32 = 2 * 1024 * 1024;
/// Time over which the pace is measured.
const PACE_WINDOW: Duration = Duration::from_millis(100);
/// Bytes of a message of a block before its data (BEP 3).
const BLOCK_HEADER: usize = 13;

/// What the swarm hands to a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Message),
    Block(Block),
}

/// Reads until the connection ends; the reason goes to the swarm.
pub(crate) async fn read_messages(
    key: PeerKey,
    socket: OwnedReadHalf,
    mut decoder: MessageDecoder,
    received: BytesMut,
    limit: RateLimiter,
    swarm: mpsc::Sender<Input>,
) {
    let mut inbound = Inbound {
        socket,
        received,
        last_block: 0,
    };
    let outcome = async {
        loop {
            while let Some(message) = decoder.decode(&mut inbound.received)? {
                if let Message::Piece { data, .. } = &message {
                    inbound.last_block = data.len();
                    limit.acquire(data.len()).await;
                }
                if swarm.send(Input::Message(key, message)).await.is_err() {
                    return Ok(());
                }
            }
            let read = tokio::time::timeout(IDLE_TIMEOUT, inbound.read()).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Ok::<(), ReadFailure>(());
            }
        }
    };
    let failure = outcome.await.err();
    if let Some(failure) = &failure {
        tracing::debug!(peer = key.0, %failure, "connection ended");
    }
    let misbehaved = matches!(failure, Some(ReadFailure::Wire(_)));
    let _ = swarm
        .send(Input::Closed {
            peer: key,
            misbehaved,
        })
        .await;
}

#[derive(Debug, thiserror::Error)]
enum ReadFailure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] PeerWireError),
}

/// The receiving side of a connection.
struct Inbound {
    socket: OwnedReadHalf,
    received: BytesMut,
    /// Bytes of the last block: the next one has as many.
    last_block: usize,
}

impl Inbound {
    /// Reads what is there, up to the end of a block; 0 at the end of the connection. An idle
    /// connection has no buffer.
    async fn read(&mut self) -> io::Result<usize> {
        if self.received.is_empty() {
            self.received = BytesMut::new();
            self.socket.readable().await?;
            // The next block ends where the buffer does, so that no byte has to move.
            let next = self.last_block.saturating_add(BLOCK_HEADER).max(SMALL_READ);
            self.received.reserve(next);
        } else {
            // The decoder has made room for the message that has begun.
            self.received.reserve(1);
        }
        self.socket.read_buf(&mut self.received).await
    }
}

/// Writes until the swarm drops its end or the socket fails.
pub(crate) async fn write_messages(
    key: PeerKey,
    socket: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Outgoing>,
    pieces: PieceReader,
    limit: RateLimiter,
    swarm: mpsc::Sender<Input>,
) {
    let mut outbound = Outbound {
        socket,
        gathered: BytesMut::new(),
        pace: SendPace::new(),
    };
    let mut ahead = ReadAhead::default();
    let outcome = async {
        loop {
            let next = match outgoing.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    outbound.flush().await?;
                    match tokio::time::timeout(KEEP_ALIVE_INTERVAL, outgoing.recv()).await {
                        Ok(Some(next)) => next,
                        Ok(None) => return Ok(()),
                        Err(_) => {
                            ahead = ReadAhead::default();
                            Outgoing::Message(Message::KeepAlive)
                        }
                    }
                }
            };
            match next {
                Outgoing::Message(message) => outbound.gather(&message).await?,
                Outgoing::Block(block) => {
                    let data = match pieces.hot(block) {
                        Some(data) => data,
                        None => {
                            outbound.flush().await?;
                            let read = pieces.read(block, &mut ahead).await;
                            if let Some(damaged) = read.as_ref().err().and_then(DamagedPiece::of) {
                                let (piece, is_repairable) = (damaged.piece, damaged.is_repairable);
                                let _ = swarm.send(Input::PieceLost(piece, is_repairable)).await;
                            }
                            read?.into()
                        }
                    };
                    if limit.rate().is_some() {
                        outbound.flush().await?;
                        limit.acquire(data.len()).await;
                    }
                    outbound.send_block(block, data).await?;
                    if swarm.send(Input::BlockSent(key, block)).await.is_err() {
                        return Ok::<(), io::Error>(());
                    }
                }
            }
        }
    };
    if let Err(error) = outcome.await {
        tracing::debug!(peer = key.0, %error, "connection not written");
    }
    let _ = outbound.socket.shutdown().await;
    let _ = swarm
        .send(Input::Closed {
            peer: key,
            misbehaved: false,
        })
        .await;
}

/// The sending side of a connection.
struct Outbound {
    socket: OwnedWriteHalf,
    /// Messages that leave with the next block, or when nothing else waits: one system call for a
    /// flurry of haves.
    gathered: BytesMut,
    pace: SendPace,
}

/// How fast the kernel takes bytes, and how many unsent ones it may therefore hold.
struct SendPace {
    since: Instant,
    bytes: u64,
    low_water: u32,
}

impl SendPace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
            low_water: NOT_SENT_LOW_WATER,
        }
    }

    /// Notes bytes that were taken; the new limit when it changes.
    fn note(&mut self, now: Instant, bytes: usize) -> Option<u32> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < PACE_WINDOW {
            return None;
        }
        let per_second = self.bytes.saturating_mul(1000)
            / u64::try_from(elapsed.as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
        (self.since, self.bytes) = (now, 0);
        let held = per_second.saturating_mul(UNSENT_MILLIS) / 1000;
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let low_water = held
            .clamp(NOT_SENT_LOW_WATER, MAX_LOW_WATER)
            .next_power_of_two();
        let changes = std::mem::replace(&mut self.low_water, low_water) != low_water;
        changes.then_some(low_water)
    }
}

impl Outbound {
    async fn gather(&mut self, message: &Message) -> io::Result<()> {
        message.encode(&mut self.gathered);
        if self.gathered.len() >= MAX_GATHERED {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.socket.write_all_buf(&mut self.gathered).await?;
        }
        // What a flurry took is given back.
        self.gathered = BytesMut::new();
        Ok(())
    }

    async fn send_block(&mut self, block: Block, data: PieceData) -> io::Result<()> {
        let header = encode_piece_header(block.piece.get(), block.offset, block.length);
        self.gathered.extend_from_slice(&header);
        let mut frame = Frame(VecDeque::from([self.gathered.split().freeze()]));
        frame.0.extend(data);
        let length = frame.remaining();
        self.socket.write_all_buf(&mut frame).await?;
        if let Some(low_water) = self.pace.note(Instant::now(), length) {
            SockRef::from(self.socket.as_ref()).set_tcp_notsent_lowat(low_water)?;
        }
        Ok(())
    }
}

/// Bytes in several places that are written as one.
struct Frame(VecDeque<Bytes>);

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |part| part)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.0.front_mut() {
            if count < part.len() {
                return part.advance(count);
            }
            count -= part.len();
            self.0.pop_front();
        }
        assert_eq!(count, 0, "advanced beyond the end");
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.0.iter().zip(slices);
        parts
            .map(|(part, slice)| *slice = IoSlice::new(part))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_parts_however_they_are_taken() {
        let parts = ["abc", "d", "efgh"].map(|part| Bytes::from_static(part.as_bytes()));
        for step in 1..9 {
            let mut frame = Frame(VecDeque::from(parts.clone()));
            let mut slices = [IoSlice::new(&[]); 2];
            assert_eq!(frame.chunks_vectored(&mut slices), 2);
            assert_eq!((&*slices[0], &*slices[1]), (&b"abc"[..], &b"d"[..]));
            let mut taken = Vec::new();
            while frame.has_remaining() {
                let count = frame.chunk().len().min(step);
                taken.extend_from_slice(&frame.chunk()[..count]);
                frame.advance(count);
            }
            assert_eq!(taken, b"abcdefgh");
        }
    }

    #[test]
    fn only_a_fast_connection_holds_much_unsent() {
        let mut pace = SendPace::new();
        let mut now = pace.since;
        let mut send = |bytes_per_ms: usize| {
            let notes = (0..PACE_WINDOW.as_millis()).filter_map(|_| {
                now += Duration::from_millis(1);
                pace.note(now, bytes_per_ms)
            });
            notes.last()
        };
        assert_eq!(send(6000), None, "50 Mbit/s");
        assert_eq!(send(125_000), Some(256 * 1024), "1 Gbit/s");
        assert_eq!(send(125_000), None);
        assert_eq!(send(5_000_000), Some(MAX_LOW_WATER));
        assert_eq!(send(6000), Some(NOT_SENT_LOW_WATER));
    }
}
