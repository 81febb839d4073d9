//! The supernode: registry and HTTP sources, cut-through ingest into a growing piece map,
//! cluster API.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod api;
#[cfg(test)]
mod blob_agreement;
mod preheat;
mod public;
mod reply;
mod stats;
mod supernode;
mod swarms;

pub use self::api::metrics_server::serve_metrics;
pub use self::preheat::triggers::{PreheatTriggers, TriggerLogins, TriggerLoginsError};
pub use self::preheat::{NodeSelector, Platform, PlatformError, PreheatError};
pub use self::public::repositories::{OpenRepository, OpenRepositoryError};
pub use self::supernode::{Supernode, SupernodeConfig};
