#![no_main]

use flotilla_torrents::peer_wire::MessageDecoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = MessageDecoder::new(1 << 16);
    let mut received = bytes::BytesMut::from(bytes);
    while let Ok(Some(_)) = decoder.decode(&mut received) {}
});
