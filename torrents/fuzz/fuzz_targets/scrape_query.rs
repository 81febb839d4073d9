#![no_main]

use flotilla_torrents::tracker_wire::ScrapeRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let _ = ScrapeRequest::from_query(query);
});
