//! What every decoder has to stand: any bytes at all. The fuzz targets call these with bytes of the
//! fuzzer's, the test `fuzz_corpus` with those that it has found.

use bytes::{Bytes, BytesMut};
use flotilla_cluster::messages::node_report::NodeReport;
use flotilla_cluster::messages::swarms::{Hello, OpenRequest, OpenResponse, SwarmEvent};
use flotilla_cluster::{SignedTicket, TicketKey};
use flotilla_torrents::bencode::{MAX_DEPTH, guard};
use flotilla_torrents::peer_wire::{
    ExtendedHandshake, Handshake, MessageDecoder, MetadataMessage, PeerExchange,
};
use flotilla_torrents::tracker_wire::{
    AddressFamily, AnnounceReply, AnnounceRequest, ScrapeRequest, ScrapeResponse, UdpReply,
    UdpRequest,
};
use flotilla_torrents::{
    Bitfield, ContentId, Digest, Geometry, InfoHash, Magnet, Metainfo, PeerId,
};

/// A check of one decoder.
pub type Check = fn(&[u8]);

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Check)] = &[
    ("announce_query", announce_query),
    ("announce_response", announce_response),
    ("bencode_guard", bencode_guard),
    ("bitfield", bitfield),
    ("content_id", content_id),
    ("digest", digest),
    ("extended_handshake", extended_handshake),
    ("handshake", handshake),
    ("magnet", magnet),
    ("metadata_message", metadata_message),
    ("metainfo", metainfo),
    ("node_report", node_report),
    ("peer_exchange", peer_exchange),
    ("peer_message", peer_message),
    ("scrape_query", scrape_query),
    ("scrape_response", scrape_response),
    ("swarm_api", swarm_api),
    ("ticket", ticket),
    ("udp_tracker", udp_tracker),
];

pub fn announce_query(bytes: &[u8]) {
    if let Ok(query) = str::from_utf8(bytes) {
        let _ = AnnounceRequest::from_query(query);
    }
}

pub fn announce_response(bytes: &[u8]) {
    if let Ok(reply) = AnnounceReply::from_bytes(bytes) {
        assert_eq!(AnnounceReply::from_bytes(&reply.to_bytes()), Ok(reply));
    }
}

/// What the guard lets pass must not harm the parser behind it.
pub fn bencode_guard(bytes: &[u8]) {
    if guard(bytes, MAX_DEPTH, bytes.len()).is_ok() {
        let _ = Metainfo::from_bytes(bytes);
    }
}

pub fn bitfield(bytes: &[u8]) {
    let Some((pieces, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = u64::from(u16::from_be_bytes(*pieces)) << 14;
    if let Ok(geometry) = Geometry::new(length, 1 << 14) {
        let _ = Bitfield::from_wire(&geometry, bytes);
    }
}

pub fn content_id(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = text.parse::<ContentId>();
    }
}

pub fn digest(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = text.parse::<Digest>();
    }
}

pub fn extended_handshake(bytes: &[u8]) {
    if let Ok(handshake) = ExtendedHandshake::from_bytes(bytes) {
        let _ = ExtendedHandshake::from_bytes(&handshake.to_bytes());
    }
}

pub fn handshake(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<68>() {
        let _ = Handshake::decode(bytes);
    }
}

pub fn magnet(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = text.parse::<Magnet>();
    }
}

pub fn metadata_message(bytes: &[u8]) {
    if let Ok(message) = MetadataMessage::from_bytes(&Bytes::copy_from_slice(bytes)) {
        let again = MetadataMessage::from_bytes(&message.to_bytes().into());
        assert_eq!(again, Ok(message));
    }
}

pub fn metainfo(bytes: &[u8]) {
    if let Ok(torrent) = Metainfo::from_bytes(bytes) {
        assert_eq!(Metainfo::from_bytes(&torrent.to_bytes()), Ok(torrent));
    }
}

pub fn node_report(bytes: &[u8]) {
    if let Some(report) = NodeReport::from_header(bytes) {
        let header = report.to_header();
        let again = header.and_then(|header| NodeReport::from_header(header.as_bytes()));
        assert!(again.is_none_or(|again| again == report));
    }
}

pub fn peer_exchange(bytes: &[u8]) {
    if let Ok(message) = PeerExchange::from_bytes(bytes) {
        let _ = PeerExchange::from_bytes(&message.to_bytes());
    }
}

pub fn peer_message(bytes: &[u8]) {
    let mut decoder = MessageDecoder::new(1 << 16);
    let mut received = BytesMut::from(bytes);
    while let Ok(Some(_)) = decoder.decode(&mut received) {}
}

pub fn scrape_query(bytes: &[u8]) {
    if let Ok(query) = str::from_utf8(bytes) {
        let _ = ScrapeRequest::from_query(query);
    }
}

pub fn scrape_response(bytes: &[u8]) {
    if let Ok(response) = ScrapeResponse::from_bytes(bytes) {
        let _ = ScrapeResponse::from_bytes(&response.to_bytes());
    }
}

pub fn swarm_api(bytes: &[u8]) {
    let _ = serde_json::from_slice::<SwarmEvent>(bytes);
    let _ = serde_json::from_slice::<OpenRequest>(bytes);
    let _ = serde_json::from_slice::<OpenResponse>(bytes);
    let _ = serde_json::from_slice::<Hello>(bytes);
}

pub fn ticket(bytes: &[u8]) {
    if let Ok(ticket) = SignedTicket::from_bytes(bytes) {
        let key = TicketKey::from_bytes([7; 32]);
        let (swarm, peer_id) = (InfoHash::from_bytes([1; 20]), PeerId::from_bytes([2; 20]));
        let _ = key.verify(&ticket, 0, swarm, peer_id);
    }
}

pub fn udp_tracker(bytes: &[u8]) {
    if let Ok(request) = UdpRequest::from_bytes(bytes) {
        assert_eq!(UdpRequest::from_bytes(&request.to_bytes()), Ok(request));
    }
    for family in [AddressFamily::V4, AddressFamily::V6] {
        if let Ok(reply) = UdpReply::from_bytes(bytes, family) {
            let _ = UdpReply::from_bytes(&reply.to_bytes(family), family);
        }
    }
}
