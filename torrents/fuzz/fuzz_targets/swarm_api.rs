#![no_main]

use flotilla_torrents::swarm_api::{Hello, OpenRequest, OpenResponse, SwarmEvent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<SwarmEvent>(bytes);
    let _ = serde_json::from_slice::<OpenRequest>(bytes);
    let _ = serde_json::from_slice::<OpenResponse>(bytes);
    let _ = serde_json::from_slice::<Hello>(bytes);
});
