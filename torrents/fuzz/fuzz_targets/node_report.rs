#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flotilla_torrents_fuzz::node_report(bytes));
