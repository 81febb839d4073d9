#![no_main]

use flotilla_torrents::{
    Metainfo,
    bencode::{MOST_DEPTH, guard},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What the guard lets pass must not harm the parser behind it.
    if guard(bytes, MOST_DEPTH, bytes.len()).is_ok() {
        let _ = Metainfo::from_bytes(bytes);
    }
});
