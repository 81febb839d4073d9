//! Announce and scrape over HTTP and UDP, peer hand-out, swarm membership.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod connection_ids;
mod gate;
mod hand_out;
mod http;
mod membership;
mod tracker;
mod udp;

pub use self::gate::{Admission, Gate, LocalSeeder};
pub use self::hand_out::HandOut;
pub use self::membership::{Membership, TrackerConfig};
pub use self::tracker::Tracker;
