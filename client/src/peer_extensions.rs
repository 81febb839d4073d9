//! What a peer of an open swarm and this host say beyond the pieces: the extended handshake
//! (BEP 10), the info dictionary (BEP 9), further peers (BEP 11).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_torrents::peer_wire::{ExtendedHandshake, Message, MetadataMessage, PeerExchange};

use crate::open_torrent::OpenTorrent;
use crate::peer_connection;

/// Our numbers for the extensions (BEP 10 `m`).
pub(crate) const UT_METADATA: u8 = 1;
const UT_PEX: u8 = 2;
/// BEP 11: at most one message a minute.
const PEX_EVERY: Duration = Duration::from_secs(60);
/// A peer's messages that come sooner after each other are passed over; clocks differ a little.
const PEX_LEAST: Duration = Duration::from_secs(45);
/// Pieces of the info dictionary that one connection gets, in multiples of the whole: one, and as
/// much again for what it asked for twice.
const METADATA_COPIES: usize = 2;

/// The extensions that this end offers, by name.
pub(crate) fn offered(torrent: Option<&OpenTorrent>) -> BTreeMap<String, u8> {
    let mut offered = BTreeMap::from([(MetadataMessage::NAME.to_owned(), UT_METADATA)]);
    if torrent.is_some_and(|torrent| !torrent.private) {
        offered.insert(PeerExchange::NAME.to_owned(), UT_PEX);
    }
    offered
}

/// The extensions of one connection.
#[derive(Debug)]
pub(crate) struct PeerExtensions {
    torrent: Arc<OpenTorrent>,
    /// Where others reach the peer: where it was dialled, or the port that it names.
    reachable: Option<SocketAddr>,
    is_seed: bool,
    /// Its number for peer exchange, once it has named one.
    pex: Option<u8>,
    metadata: Option<u8>,
    /// Peers that it was told of and that are still there.
    told: BTreeSet<SocketAddr>,
    next_pex: Instant,
    /// Its next message counts from then on.
    pex_welcome: Instant,
    metadata_sent: usize,
}

/// What a message of the extension protocol leads to.
#[derive(Debug)]
pub(crate) enum Reaction {
    Nothing,
    /// What the peer serves.
    Limits {
        block_length: u32,
        request_queue: u32,
        upload_only: bool,
    },
    Send(Message),
    /// Further peers.
    Peers(Vec<SocketAddr>),
}

impl PeerExtensions {
    pub(crate) fn new(
        torrent: Arc<OpenTorrent>,
        dialled: Option<SocketAddr>,
        now: Instant,
    ) -> Self {
        Self {
            torrent,
            reachable: dialled,
            is_seed: false,
            pex: None,
            metadata: None,
            told: BTreeSet::new(),
            next_pex: now,
            pex_welcome: now,
            metadata_sent: 0,
        }
    }

    /// A message of the peer at `remote`. What cannot be read is passed over: these are courtesies.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        id: u8,
        payload: &Bytes,
    ) -> Reaction {
        match id {
            0 => match ExtendedHandshake::from_bytes(payload) {
                Ok(extended) => self.handshake(remote, &extended),
                Err(_) => Reaction::Nothing,
            },
            UT_METADATA => match (MetadataMessage::from_bytes(payload), self.metadata) {
                (Ok(MetadataMessage::Request { piece }), Some(theirs)) => {
                    Reaction::Send(extended(theirs, &self.metadata_piece(piece)))
                }
                _ => Reaction::Nothing,
            },
            UT_PEX if !self.torrent.private && now >= self.pex_welcome => {
                match PeerExchange::from_bytes(payload) {
                    Ok(exchange) => {
                        self.pex_welcome = now + PEX_LEAST;
                        let added = exchange.added.into_iter();
                        Reaction::Peers(added.map(|(address, _)| address).collect())
                    }
                    Err(_) => Reaction::Nothing,
                }
            }
            _ => Reaction::Nothing,
        }
    }

    fn handshake(&mut self, remote: SocketAddr, theirs: &ExtendedHandshake) -> Reaction {
        // A later handshake changes what it names; the number 0 ends an extension (BEP 10).
        for (name, known) in [
            (PeerExchange::NAME, &mut self.pex),
            (MetadataMessage::NAME, &mut self.metadata),
        ] {
            if let Some(id) = theirs.m.get(name) {
                *known = Some(*id).filter(|id| *id != 0);
            }
        }
        if self.reachable.is_none()
            && let Some(port) = theirs.p.filter(|port| *port != 0)
        {
            self.reachable = Some(SocketAddr::new(remote.ip(), port));
        }
        self.is_seed |= theirs.upload_only;
        Reaction::Limits {
            block_length: peer_connection::block_length(theirs),
            request_queue: peer_connection::request_queue(theirs),
            upload_only: theirs.upload_only,
        }
    }

    fn metadata_piece(&mut self, piece: u32) -> MetadataMessage {
        let info = &self.torrent.info;
        let start = usize::try_from(piece)
            .unwrap_or(usize::MAX)
            .saturating_mul(MetadataMessage::PIECE);
        let most = info.len().saturating_mul(METADATA_COPIES);
        if start >= info.len() || self.metadata_sent >= most {
            return MetadataMessage::Reject { piece };
        }
        let end = start.saturating_add(MetadataMessage::PIECE).min(info.len());
        self.metadata_sent = self.metadata_sent.saturating_add(end - start);
        MetadataMessage::Data {
            piece,
            total_size: u32::try_from(info.len()).unwrap_or(u32::MAX),
            data: info.slice(start..end),
        }
    }

    /// Where others reach the peer, and what it is.
    pub(crate) fn contact(&self) -> Option<(SocketAddr, u8)> {
        let seed = if self.is_seed { PeerExchange::SEED } else { 0 };
        Some((self.reachable?, seed))
    }

    /// Tells the peer of the `others` that have come and gone, when that is due.
    pub(crate) fn exchange(
        &mut self,
        now: Instant,
        others: &BTreeMap<SocketAddr, u8>,
    ) -> Option<Message> {
        let theirs = self.pex.filter(|_| !self.torrent.private)?;
        if now < self.next_pex {
            return None;
        }
        let new = others.iter().filter(|(address, _)| {
            Some(**address) != self.reachable && !self.told.contains(address)
        });
        let added: Vec<_> = new
            .map(|(address, flags)| (*address, *flags))
            .take(PeerExchange::MOST_PEERS)
            .collect();
        let gone = self.told.iter().filter(|told| !others.contains_key(told));
        let dropped: Vec<_> = gone.copied().take(PeerExchange::MOST_PEERS).collect();
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        self.next_pex = now + PEX_EVERY;
        self.told.extend(added.iter().map(|(address, _)| *address));
        for address in &dropped {
            self.told.remove(address);
        }
        let exchange = PeerExchange { added, dropped };
        Some(Message::Extended {
            id: theirs,
            payload: Bytes::from(exchange.to_bytes()),
        })
    }
}

fn extended(id: u8, message: &MetadataMessage) -> Message {
    Message::Extended {
        id,
        payload: Bytes::from(message.to_bytes()),
    }
}
