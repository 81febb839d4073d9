#![no_main]

use flotilla_torrents::{InfoHash, PeerId, SignedTicket, TicketKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ticket) = SignedTicket::from_bytes(bytes) {
        let key = TicketKey::from_bytes([7; 32]);
        let (swarm, peer_id) = (InfoHash::from_bytes([1; 20]), PeerId::from_bytes([2; 20]));
        let _ = key.verify(&ticket, 0, swarm, peer_id);
    }
});
