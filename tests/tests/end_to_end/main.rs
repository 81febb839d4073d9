//! Real registry, real Docker engines, real links.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod artifacts;
mod authorization;
mod bad_input;
mod binary;
mod corrupt_peer;
mod failures;
mod get;
mod local_engines;
mod matrix;
mod mirror;
mod open_swarms;
mod pull;
mod readme;
mod statistics;
mod torrents;
mod untouched;

/// Compressed layer sizes of a test image: swarms of many pieces and of few, and one layer that is
/// too small for a swarm.
const LAYERS: [u64; 5] = [12 << 20, 8 << 20, 5 << 20, 2 << 20, 200 << 10];

/// One byte for each layer and node: what authorization may cost at the registry.
fn probes(nodes: u64, image: &flotilla_testbed::Image) -> u64 {
    nodes * u64::try_from(image.layers.len() + 1).unwrap()
}
