//! What a peer of an open swarm and this host say beyond the pieces: the extended handshake
//! (BEP 10), the info dictionary (BEP 9), further peers (BEP 11).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_torrents::peer_wire::{ExtendedHandshake, Message, MetadataMessage, PeerExchange};

use crate::peers::open_torrent::OpenTorrent;
use crate::swarm::OWN_BLOCK;

/// Our numbers for the extensions (BEP 10 `m`).
pub(crate) const UT_METADATA: u8 = 1;
const UT_PEX: u8 = 2;
/// BEP 11: at most one message a minute.
const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// A peer's messages that come sooner after each other are passed over; clocks differ a little.
const MIN_PEX_INTERVAL: Duration = Duration::from_secs(45);
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
    /// Peers that were named to it and are still there.
    named: BTreeSet<SocketAddr>,
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
            named: BTreeSet::new(),
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
                        self.pex_welcome = now + MIN_PEX_INTERVAL;
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
            block_length: theirs.block_length(OWN_BLOCK),
            request_queue: theirs.request_queue(),
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
            Some(**address) != self.reachable && !self.named.contains(address)
        });
        let added: Vec<_> = new
            .map(|(address, flags)| (*address, *flags))
            .take(PeerExchange::MAX_PEERS)
            .collect();
        let gone = self
            .named
            .iter()
            .filter(|named| !others.contains_key(named));
        let dropped: Vec<_> = gone.copied().take(PeerExchange::MAX_PEERS).collect();
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        self.next_pex = now + PEX_INTERVAL;
        self.named.extend(added.iter().map(|(address, _)| *address));
        for address in &dropped {
            self.named.remove(address);
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

#[cfg(test)]
mod tests {
    use flotilla_torrents::{Geometry, Metainfo, PieceHash};

    use super::*;

    fn meet(private: bool, now: Instant) -> PeerExtensions {
        let pieces = vec![PieceHash::of(b""); 1000];
        let geometry = Geometry::new(1000 << 14, 1 << 14).unwrap();
        let torrent = Metainfo::new("t", geometry, pieces, private, &[], &[]).unwrap();
        let mut peer = PeerExtensions::new(Arc::new(OpenTorrent::new(&torrent)), None, now);
        let theirs = ExtendedHandshake {
            m: BTreeMap::from([("ut_pex".to_owned(), 5), ("ut_metadata".to_owned(), 6)]),
            p: Some(7000),
            ..ExtendedHandshake::default()
        };
        let reaction = peer.handle(now, remote(), 0, &theirs.to_bytes().into());
        assert!(matches!(reaction, Reaction::Limits { .. }), "{reaction:?}");
        peer
    }

    fn remote() -> SocketAddr {
        "10.0.0.1:54321".parse().unwrap()
    }

    fn others(count: u16) -> BTreeMap<SocketAddr, u8> {
        let port = |number| SocketAddr::from(([10, 0, 0, 2], number));
        (1..=count).map(|number| (port(number), 0)).collect()
    }

    fn exchange() -> Bytes {
        let added = others(3).into_iter().collect();
        let exchange = PeerExchange {
            added,
            ..PeerExchange::default()
        };
        exchange.to_bytes().into()
    }

    #[test]
    fn peers_of_a_private_torrent_are_neither_named_nor_taken() {
        let now = Instant::now();
        let mut peer = meet(true, now);
        assert_eq!(peer.exchange(now, &others(3)), None);
        let reaction = peer.handle(now, remote(), UT_PEX, &exchange());
        assert!(matches!(reaction, Reaction::Nothing), "{reaction:?}");
    }

    #[test]
    fn a_peer_learns_of_fifty_others_a_minute_and_never_of_itself() {
        let now = Instant::now();
        let mut peer = meet(false, now);
        let mut all = others(70);
        all.insert("10.0.0.1:7000".parse().unwrap(), 0);
        let sent = |message: Option<Message>| match message {
            Some(Message::Extended { id: 5, payload }) => {
                let exchange = PeerExchange::from_bytes(&payload).unwrap();
                (exchange.added.len(), exchange.dropped.len())
            }
            _ => (0, 0),
        };
        assert_eq!(sent(peer.exchange(now, &all)), (50, 0));
        assert_eq!(sent(peer.exchange(now + PEX_INTERVAL / 2, &all)), (0, 0));
        assert_eq!(sent(peer.exchange(now + PEX_INTERVAL, &all)), (20, 0));
        let gone = BTreeMap::new();
        assert_eq!(sent(peer.exchange(now + PEX_INTERVAL * 2, &gone)), (0, 50));
    }

    #[test]
    fn a_peer_that_names_others_too_often_is_not_listened_to() {
        let now = Instant::now();
        let mut peer = meet(false, now);
        let first = peer.handle(now, remote(), UT_PEX, &exchange());
        assert!(matches!(first, Reaction::Peers(peers) if peers.len() == 3));
        let second = peer.handle(now, remote(), UT_PEX, &exchange());
        assert!(matches!(second, Reaction::Nothing));
    }

    #[test]
    fn the_metainfo_is_given_piece_by_piece_but_not_for_ever() {
        let now = Instant::now();
        let mut peer = meet(true, now);
        let mut ask = |piece| {
            let request = MetadataMessage::Request { piece }.to_bytes();
            match peer.handle(now, remote(), UT_METADATA, &request.into()) {
                Reaction::Send(Message::Extended { id: 6, payload }) => {
                    MetadataMessage::from_bytes(&payload).unwrap()
                }
                other => panic!("{other:?}"),
            }
        };
        let (first, last, beyond) = (ask(0), ask(1), ask(2));
        assert!(matches!(first, MetadataMessage::Data { data, .. } if data.len() == 16 << 10));
        assert!(matches!(last, MetadataMessage::Data { data, .. } if data.len() < 16 << 10));
        assert_eq!(beyond, MetadataMessage::Reject { piece: 2 });
        let refused = (0..10).map(|_| ask(0)).last();
        assert_eq!(refused, Some(MetadataMessage::Reject { piece: 0 }));
    }
}
