#![no_main]

use flotilla_torrents::tracker_wire::ScrapeResponse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(response) = ScrapeResponse::from_bytes(bytes) {
        let _ = ScrapeResponse::from_bytes(&response.to_bytes());
    }
});
