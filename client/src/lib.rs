//! The swarm engine of flotilla.
//!
//! [`swarm`] decides, without IO; [`store`] keeps layers on the disk; [`Engine`] runs swarms
//! over TCP; [`Node`] adds the supernodes; [`get`] is the command-line download, [`preheat`] asks
//! supernodes for layers ahead of the pulls, [`statistics_client`] for what they are doing; [`torrent_files`] makes and verifies torrents of files
//! on the disk; [`tracker_client`] asks trackers; [`torrent_swarm`] downloads and seeds torrents
//! among clients of any make. A running host is looked into through its [`control`] socket
//! ([`DaemonClient`]).

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod bans;
mod byte_range;
pub mod cache;
mod content_url;
pub mod control;
pub mod control_client;
mod engine;
pub mod get;
mod layer_reader;
mod metadata_exchange;
mod node;
mod open_torrent;
mod orders;
mod own_directory;
mod path_filter;
mod peer_connection;
mod peer_extensions;
mod peer_finder;
mod peer_io;
mod peer_priority;
mod piece_storage;
pub mod placement;
pub mod preheat;
pub mod rate_limit;
pub mod rendezvous;
mod small_content;
mod small_queue;
mod spool;
pub mod statistics_client;
pub mod store;
mod supernode_client;
mod supernode_session;
pub mod swarm;
mod swarm_handle;
mod swarm_task;
pub mod torrent_files;
mod torrent_registration;
pub mod torrent_swarm;
pub mod trace;
pub mod tracker_client;
mod web_seed;
mod without_secrets;

pub use self::byte_range::{ByteRange, ByteRangeError};
pub use self::content_url::content_url;
pub use self::control_client::DaemonClient;
pub use self::engine::{Engine, EngineConfig, EngineError, OpenToStrangersError};
pub use self::layer_reader::{LayerReader, ReadError};
pub use self::node::{ContentRequest, Layer, Node, NodeConfig, OpenError, StartError, origin_of};
pub use self::path_filter::PathFilter;
pub use self::small_content::SmallContent;
pub use self::spool::{Spool, SpoolError};
pub use self::store::{StoreError, StoredLayer};
pub use self::supernode_client::SupernodeError;
pub use self::swarm_handle::{
    OriginSwarm, RunningSwarm, SwarmCounters, SwarmHandle, SwarmState, SwarmStatus,
};
pub use self::torrent_registration::{register_torrent, tracker_url, unregister_torrent};
pub use self::without_secrets::redacted;
