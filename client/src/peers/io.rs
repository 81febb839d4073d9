//! The two tasks of a connection: one reads messages for the swarm, one writes what the
//! swarm hands it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::{Message, MessageDecoder, PeerWireError, encode_piece_header};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::blocking::blocking_read;
use crate::engine::input::Input;
use crate::engine::piece_storage::PieceStorage;
use crate::store::DamagedPiece;
use crate::swarm::{OWN_BLOCK, PeerKey};

/// BEP 3: keep-alives are generally sent once every two minutes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);
/// A connection that is silent for longer than two keep-alives is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(240);

/// What the swarm hands to a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Message),
    Block(Block),
}

/// Reads until the connection ends; the reason goes to the swarm.
pub(crate) async fn read_messages(
    key: PeerKey,
    mut socket: OwnedReadHalf,
    mut decoder: MessageDecoder,
    mut received: BytesMut,
    limit: RateLimiter,
    swarm: mpsc::Sender<Input>,
) {
    let outcome = async {
        loop {
            while let Some(message) = decoder.decode(&mut received)? {
                if let Message::Piece { data, .. } = &message {
                    limit.acquire(data.len()).await;
                }
                if swarm.send(Input::Message(key, message)).await.is_err() {
                    return Ok(());
                }
            }
            received.reserve(OWN_BLOCK as usize + 1024);
            let read = tokio::time::timeout(IDLE_TIMEOUT, socket.read_buf(&mut received));
            if read
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
                == 0
            {
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

/// Writes until the swarm drops its end or the socket fails.
pub(crate) async fn write_messages(
    key: PeerKey,
    mut socket: OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Outgoing>,
    storage: PieceStorage,
    limit: RateLimiter,
    swarm: mpsc::Sender<Input>,
) {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let next = match tokio::time::timeout(KEEP_ALIVE_INTERVAL, outgoing.recv()).await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(_) => Outgoing::Message(Message::KeepAlive),
        };
        let written = match next {
            Outgoing::Message(message) => {
                message.encode(&mut buffer);
                // Haves come in flurries: one system call for all that wait.
                let mut block = None;
                while let Ok(more) = outgoing.try_recv() {
                    match more {
                        Outgoing::Message(message) => message.encode(&mut buffer),
                        Outgoing::Block(next) => {
                            block = Some(next);
                            break;
                        }
                    }
                }
                let flushed = socket.write_all(&buffer).await;
                buffer.clear();
                match (flushed, block) {
                    (Ok(()), Some(block)) => {
                        write_block(key, &mut socket, block, &storage, &limit, &swarm).await
                    }
                    (flushed, _) => flushed,
                }
            }
            Outgoing::Block(block) => {
                write_block(key, &mut socket, block, &storage, &limit, &swarm).await
            }
        };
        if written.is_err() {
            break;
        }
    }
    let _ = socket.shutdown().await;
    let _ = swarm
        .send(Input::Closed {
            peer: key,
            misbehaved: false,
        })
        .await;
}

async fn write_block(
    key: PeerKey,
    socket: &mut (impl AsyncWrite + Unpin),
    block: Block,
    storage: &PieceStorage,
    limit: &RateLimiter,
    swarm: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let length = usize::try_from(block.length).unwrap_or(usize::MAX);
    limit.acquire(length).await;
    let offset = storage.geometry().piece_offset(block.piece) + u64::from(block.offset);
    let storage = storage.clone();
    let read = blocking_read(move || storage.read(offset, length)).await;
    if let Some(damaged) = read.as_ref().err().and_then(DamagedPiece::of) {
        let lost = Input::PieceLost(damaged.piece, damaged.is_repairable);
        let _ = swarm.send(lost).await;
    }
    let data: Bytes = read?;
    let header = encode_piece_header(block.piece.get(), block.offset, block.length);
    let mut frame = bytes::Buf::chain(header.as_slice(), data);
    socket.write_all_buf(&mut frame).await?;
    let _ = swarm.send(Input::BlockSent(key, block)).await;
    Ok(())
}
