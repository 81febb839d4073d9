#![no_main]

use flotilla_torrents::peer_wire::Handshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; 68]| {
    let _ = Handshake::decode(&bytes);
});
