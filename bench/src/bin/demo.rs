//! `make demo`: five nodes pull one image at once, straight from the registry, then through the swarm.
fn main() {}
