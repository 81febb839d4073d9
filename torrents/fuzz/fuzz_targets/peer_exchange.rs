#![no_main]

use flotilla_torrents::peer_wire::PeerExchange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = PeerExchange::from_bytes(bytes) {
        let _ = PeerExchange::from_bytes(&message.to_bytes());
    }
});
