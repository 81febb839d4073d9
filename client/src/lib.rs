//! The swarm engine of flotilla.
//!
//! [`swarm`] decides, without IO; [`store`] keeps content on the disk; [`engine`] runs swarms over
//! TCP with the [`peers`] that it meets; [`Node`] adds the supernodes; [`torrent_files`] makes and
//! verifies torrents of files on the disk. A running host is asked through its [`control`] socket
//! ([`DaemonClient`]).

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod blocking;
mod byte_range;
pub mod control;
pub mod engine;
mod node;
pub mod peers;
mod piece_data;
mod positioned;
pub mod secret_file;
pub mod store;
pub mod swarm;
pub mod torrent_files;

pub use self::byte_range::{ByteRange, ByteRangeError};
pub use self::control::client::DaemonClient;
pub use self::engine::layer_reader::{LayerReader, ReadError};
pub use self::engine::running_swarm::{RunningSwarm, SwarmState, SwarmStatus};
pub use self::engine::spool::{Spool, SpoolError};
pub use self::engine::swarm_handle::{OriginSwarm, SwarmHandle};
pub use self::engine::{Engine, EngineConfig, EngineError, OpenToStrangersError, SwarmCounters};
pub use self::node::{ContentRequest, Layer, LayerFacts, Node, NodeConfig, OpenError, StartError};
pub use self::piece_data::PieceData;
pub use self::store::small_content::SmallContent;
pub use self::store::{StoreError, StoredLayer};
pub use self::torrent_files::path_filter::PathFilter;
