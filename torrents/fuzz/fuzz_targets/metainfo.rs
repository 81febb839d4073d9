#![no_main]

use flotilla_torrents::Metainfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(torrent) = Metainfo::from_bytes(bytes) {
        assert_eq!(Metainfo::from_bytes(&torrent.to_bytes()), Ok(torrent));
    }
});
