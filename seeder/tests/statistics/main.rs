//! The statistics of a real supernode with real nodes on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod access;
mod answers;
mod cluster;
#[path = "../loopback/mod.rs"]
mod loopback;
mod many_nodes;
mod metrics;
mod schema;
