#![no_main]

use flotilla_torrents::peer_wire::ExtendedHandshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(handshake) = ExtendedHandshake::from_bytes(bytes) {
        let _ = ExtendedHandshake::from_bytes(&handshake.to_bytes());
    }
});
