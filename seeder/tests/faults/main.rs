//! What a fault costs: of the source, of a disk, of a supernode.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod cluster;
mod evicted;
#[path = "../loopback/mod.rs"]
mod loopback;
mod other_supernodes;
mod wrong_answers;
