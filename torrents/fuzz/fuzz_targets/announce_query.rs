#![no_main]

use flotilla_torrents::tracker_wire::AnnounceRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let _ = AnnounceRequest::from_query(query);
});
