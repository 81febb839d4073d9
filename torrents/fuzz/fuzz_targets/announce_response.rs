#![no_main]

use flotilla_torrents::tracker_wire::AnnounceReply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reply) = AnnounceReply::from_bytes(bytes) {
        assert_eq!(AnnounceReply::from_bytes(&reply.to_bytes()), Ok(reply));
    }
});
