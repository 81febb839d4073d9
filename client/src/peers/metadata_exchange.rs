//! The metainfo of a magnet link, from the peers (BEP 9).
//!
//! A phase before the swarm: nothing of a torrent can be stored before its info dictionary is here.
//! What a peer sends is bounded by the size of the longest torrent that is read, and counts only
//! when its SHA-1 is the info hash of the link.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_torrents::peer_wire::{ExtendedHandshake, Message, MetadataMessage};
use flotilla_torrents::{InfoHash, Metainfo, MetainfoError, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::peers::connection as peer_connection;
use crate::peers::connection::{Access, HandshakeError, LocalIdentity, PeerConnection};
use crate::peers::extensions::UT_METADATA;

/// Peers that are asked at the same moment.
const MAX_ASKED: usize = 16;
/// A peer that does not bring the next piece by then is left.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// A peer that failed is asked again after this: it may have been without the metainfo itself.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Pieces asked for ahead of what came.
const PIPELINE: usize = 16;

/// Why a peer did not bring the metainfo.
#[derive(Debug, thiserror::Error)]
enum MetadataError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(String),
    #[error("nothing for {}s", PEER_TIMEOUT.as_secs())]
    Silent,
    #[error("it has no metainfo to give")]
    NotOffered,
    #[error("metainfo of {0} bytes, expected 1 to {most}", most = Metainfo::MAX_INFO_BYTES)]
    Size(u64),
    #[error("it sent a metainfo with the hash {0}")]
    OtherHash(InfoHash),
    #[error("{0}")]
    Metainfo(#[from] MetainfoError),
}

impl MetadataError {
    /// Whether the peer would fail again.
    fn is_final(&self) -> bool {
        matches!(self, Self::Size(_) | Self::OtherHash(_) | Self::Protocol(_))
    }
}

/// Asks the `peers` that are and become known until one brings the metainfo, without trackers.
/// Fails only with a metainfo that has the right hash and is refused all the same. Cancel safe.
pub async fn fetch(
    info_hash: InfoHash,
    peer_id: PeerId,
    listen_port: u16,
    mut peers: watch::Receiver<BTreeSet<SocketAddr>>,
) -> Result<Metainfo, MetainfoError> {
    let me = LocalIdentity {
        swarm: info_hash,
        peer_id,
        access: Access::Open {
            torrent: None,
            complete: false,
            listen_port,
        },
    };
    let mut asked: HashMap<SocketAddr, Option<Instant>> = HashMap::new();
    let mut asking = JoinSet::new();
    loop {
        let known: Vec<SocketAddr> = peers.borrow_and_update().iter().copied().collect();
        for peer in known {
            let ready = match asked.get(&peer) {
                Some(Some(failed)) => failed.elapsed() >= RETRY_INTERVAL,
                Some(None) => false,
                None => true,
            };
            if ready && asking.len() < MAX_ASKED {
                asked.insert(peer, None);
                let me = me.clone();
                asking.spawn(async move { (peer, ask(peer, &me).await) });
            }
        }
        tokio::select! {
            Some(joined) = asking.join_next() => match joined {
                Ok((_, Ok(metainfo))) => return Ok(metainfo),
                Ok((_, Err(MetadataError::Metainfo(error)))) => return Err(error),
                Ok((peer, Err(error))) => {
                    tracing::debug!(peer.addr = %peer, %error, "metainfo not received");
                    if !error.is_final() {
                        asked.insert(peer, Some(Instant::now()));
                    }
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Ok(()) = peers.changed() => {}
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
}

async fn ask(remote: SocketAddr, me: &LocalIdentity) -> Result<Metainfo, MetadataError> {
    let mut peer = Asked(peer_connection::dial(remote, me).await?);
    let theirs = loop {
        if let Message::Extended { id: 0, payload } = peer.next().await? {
            let read = ExtendedHandshake::from_bytes(&payload);
            break read.map_err(|e| MetadataError::Protocol(e.to_string()))?;
        }
    };
    let id = theirs.m.get(MetadataMessage::NAME).copied();
    let (Some(id @ 1..), Some(size)) = (id, theirs.metadata_size) else {
        return Err(MetadataError::NotOffered);
    };
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    if !(1..=Metainfo::MAX_INFO_BYTES).contains(&length) {
        return Err(MetadataError::Size(size.into()));
    }
    let info = peer.metadata(id, length).await?;
    let found = InfoHash::of_info(&info);
    if found != me.swarm {
        return Err(MetadataError::OtherHash(found));
    }
    Ok(Metainfo::from_info(&info)?)
}

struct Asked(PeerConnection);

impl Asked {
    async fn next(&mut self) -> Result<Message, MetadataError> {
        let Self(peer) = self;
        let received = async {
            loop {
                let message = peer.decoder.decode(&mut peer.received);
                let message = message.map_err(|e| MetadataError::Protocol(e.to_string()))?;
                if let Some(message) = message {
                    return Ok(message);
                }
                if peer.stream.read_buf(&mut peer.received).await? == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
            }
        };
        tokio::time::timeout(PEER_TIMEOUT, received)
            .await
            .map_err(|_| MetadataError::Silent)?
    }

    /// The info dictionary of `length` bytes, piece by piece in order.
    async fn metadata(&mut self, id: u8, length: usize) -> Result<Vec<u8>, MetadataError> {
        let pieces = length.div_ceil(MetadataMessage::PIECE);
        let mut info = Vec::new();
        let mut requested = 0;
        let deadline = |pieces: usize| {
            // Each piece has its share, so that a peer cannot keep this busy with other messages.
            let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
            tokio::time::Instant::now() + PEER_TIMEOUT.saturating_mul(pieces.min(64))
        };
        let deadline = deadline(pieces);
        for piece in 0..pieces {
            while requested < pieces.min(piece + PIPELINE) {
                self.request(id, requested).await?;
                requested += 1;
            }
            let data = tokio::time::timeout_at(deadline, self.piece(piece))
                .await
                .map_err(|_| MetadataError::Silent)??;
            let expected = (length - info.len()).min(MetadataMessage::PIECE);
            if data.len() != expected {
                let found = data.len();
                return Err(MetadataError::Protocol(format!(
                    "piece {piece} of the metainfo has {found} bytes, expected {expected}"
                )));
            }
            info.extend_from_slice(&data);
        }
        Ok(info)
    }

    async fn request(&mut self, id: u8, piece: usize) -> Result<(), MetadataError> {
        let piece = u32::try_from(piece).unwrap_or(u32::MAX);
        let mut bytes = BytesMut::new();
        Message::Extended {
            id,
            payload: Bytes::from(MetadataMessage::Request { piece }.to_bytes()),
        }
        .encode(&mut bytes);
        Ok(self.0.stream.write_all(&bytes).await?)
    }

    /// The data of `piece`, which is the next one: requests are answered in order.
    async fn piece(&mut self, piece: usize) -> Result<Bytes, MetadataError> {
        loop {
            let Message::Extended {
                id: UT_METADATA,
                payload,
            } = self.next().await?
            else {
                continue;
            };
            match MetadataMessage::from_bytes(&payload) {
                Ok(MetadataMessage::Data {
                    piece: found, data, ..
                }) if usize::try_from(found) == Ok(piece) => return Ok(data),
                Ok(MetadataMessage::Reject { .. }) => return Err(MetadataError::NotOffered),
                _ => {}
            }
        }
    }
}
