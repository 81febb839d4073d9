//! The supernode: registry and HTTP sources, cut-through ingest into a growing piece map,
//! cluster API.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod api;
mod api_server;
pub mod authorization;
pub mod exposition;
mod ingest;
mod offers;
mod open_layers;
pub mod open_repository;
mod open_swarms;
mod open_torrents;
mod openings;
mod preheat;
pub mod registry_challenge;
pub mod registry_host;
pub mod registry_login;
pub mod registry_tls;
pub mod registry_token;
pub mod source;
pub mod source_address;
mod source_pace;
mod stats;
mod supernode;

pub use self::preheat::PreheatError;
pub use self::preheat::triggers::{PreheatTriggers, TriggerLogins, TriggerLoginsError};
pub use self::supernode::{Supernode, SupernodeConfig};
