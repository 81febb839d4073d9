#![no_main]

use flotilla_torrents::tracker_wire::{AddressFamily, UdpReply, UdpRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = UdpRequest::from_bytes(bytes) {
        assert_eq!(UdpRequest::from_bytes(&request.to_bytes()), Ok(request));
    }
    for family in [AddressFamily::V4, AddressFamily::V6] {
        if let Ok(reply) = UdpReply::from_bytes(bytes, family) {
            let _ = UdpReply::from_bytes(&reply.to_bytes(family), family);
        }
    }
});
