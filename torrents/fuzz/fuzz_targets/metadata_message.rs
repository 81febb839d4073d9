#![no_main]

use bytes::Bytes;
use flotilla_torrents::peer_wire::MetadataMessage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = MetadataMessage::from_bytes(&Bytes::copy_from_slice(bytes)) {
        let again = MetadataMessage::from_bytes(&message.to_bytes().into());
        assert_eq!(again, Ok(message));
    }
});
