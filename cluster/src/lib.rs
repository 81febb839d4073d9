//! What nodes and supernodes say to each other.
//!
//! [`messages`] are the cluster API's bodies, [`SupernodeClient`](supernode_client) speaks them,
//! [`rendezvous`] says which supernode serves which content, a [`ticket`] admits a node to a swarm,
//! and [`trace`] follows one request over all of them. Both sides depend on this crate and neither on
//! the other.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod clock;
mod content_url;
pub mod exposition;
pub mod messages;
#[cfg(feature = "client")]
pub mod preheat_client;
#[cfg(feature = "client")]
pub mod rate_limit;
#[cfg(feature = "client")]
mod redact;
pub mod rendezvous;
#[cfg(feature = "client")]
pub mod statistics_client;
#[cfg(feature = "client")]
pub mod supernode_client;
mod ticket;
#[cfg(feature = "client")]
mod torrent_registration;
#[cfg(feature = "client")]
pub mod trace;

pub use self::clock::unix_now;
pub use self::content_url::content_url;
#[cfg(feature = "client")]
pub use self::redact::{redacted, root_cause};
#[cfg(feature = "client")]
pub use self::supernode_client::SupernodeError;
pub use self::ticket::{
    SignedTicket, Ticket, TicketError, TicketKey, TicketKeys, TicketSigner, TicketSignerError,
};
#[cfg(feature = "client")]
pub use self::torrent_registration::{register_torrent, tracker_url, unregister_torrent};
