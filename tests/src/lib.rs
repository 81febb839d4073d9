//! End-to-end tests with real programs: what they have in common.
//!
//! They need root, the packages of `scripts/setup.sh` and the release binary, and fail without
//! them. Run them with `make test`, or one of them with
//! `make build && cargo test --release -p flotilla-tests --test end_to_end NAME`.

mod cluster;

pub use cluster::{Cluster, ClusterPlan};
