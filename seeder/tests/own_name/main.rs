//! What a supernode does at registries in its own name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod fakes;
mod files;
mod harbor_driver;
mod jobs;
mod nodes;
mod preheating;
mod resuming;
#[path = "../statistics/schema.rs"]
mod schema;
mod shown_jobs;
mod triggers;
