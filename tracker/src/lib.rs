//! Announce, scrape, peer hand-out, swarm membership and statistics.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation
    )
)]

mod http;
mod membership;
mod statistics;

pub use self::http::{Admission, Admit, Tracker};
pub use self::membership::{Membership, TrackerConfig};
pub use self::statistics::{NodeStatistics, Statistics, SwarmStatistics};
