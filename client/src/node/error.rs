//! Why a node does not start, or a swarm does not deliver.

use flotilla_cluster::supernode_client::SupernodeError;
use flotilla_torrents::{ContentId, GeometryError};

use crate::engine::EngineError;

/// Why the swarm does not deliver; every one of them means: go to the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The source refuses this caller.
    #[error("the source refuses: {status} {reason}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// The content does not fit into a swarm.
    #[error("not for the swarm: {0}")]
    Unswarmable(String),
    /// The supernodes cannot help.
    #[error(transparent)]
    Supernode(#[from] SupernodeError),
    /// The supernode described something impossible.
    #[error("supernode described an impossible layer: {0}")]
    Geometry(#[from] GeometryError),
    /// The supernode described something else than what was asked for.
    #[error("supernode answered with {found} instead of {wanted}")]
    OtherContent {
        /// What was asked for.
        wanted: ContentId,
        /// What was described.
        found: ContentId,
    },
    /// This host cannot store it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A supernode does not accept this node.
    #[error(transparent)]
    Supernode(#[from] SupernodeError),
    /// The HTTP client cannot be made.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}
