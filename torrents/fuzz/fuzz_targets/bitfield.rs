#![no_main]

use flotilla_torrents::{Bitfield, Geometry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (pieces, bytes) = input;
    if let Ok(geometry) = Geometry::new(u64::from(pieces) << 14, 1 << 14) {
        let _ = Bitfield::from_wire(&geometry, bytes);
    }
});
