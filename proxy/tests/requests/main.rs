//! What engines and registries really do, through the whole stack: the cases that must be
//! handled, each by its number, and generated requests compared with the registry itself. Case 14, interception, is in
//! `interception.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../fakes/mod.rs"]
mod fakes;

mod cases;
mod cases_of_blobs;
mod differential;
mod differential_uploads;
mod hostile;
mod lazy_layers;
mod preheated;
mod pushes;
mod stack;
