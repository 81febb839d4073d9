//! The control socket of a running host: HTTP over a Unix socket in its data directory, for
//! every process that may write there.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/layers` | a [`CacheReport`](crate::control::cache::CacheReport) |
//! | `POST /v1/layers/remove` | [`Outcomes`] |
//! | `POST /v1/layers/pin` | [`Outcomes`] |
//! | `POST /v1/layers/verify` | a [`LayerAudit`] a line |
//! | `POST /v1/fetch` | a [`FetchEvent`] a line; the last one is held back from eviction as long as the connection stays open |

pub mod cache;
pub mod client;
mod fetch;
mod lines;
mod server;
mod socket;

use std::path::PathBuf;

use flotilla_torrents::{ContentId, Digest};
use serde::{Deserialize, Serialize};

use crate::control::cache::Outcome;
use crate::store::LayerAudit;

pub use self::fetch::ContentSource;
pub use self::server::offer;
pub use self::socket::SocketError;

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";
/// Layers that one request may name.
pub(crate) const MAX_NAMED: usize = 1000;

/// The layers that a request is about.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) contents: Vec<ContentId>,
}

/// Layers to pin or unpin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pinning {
    pub(crate) contents: Vec<ContentId>,
    pub(crate) pinned: bool,
}

/// What became of each, in the order of the request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    pub(crate) outcomes: Vec<Outcome>,
}

/// What became of a layer that was to be verified.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verified {
    Audit(LayerAudit),
    Absent,
    Failed(String),
}

/// What to fetch, and in whose name.
#[derive(Serialize, Deserialize)]
pub(crate) struct FetchRequest {
    pub(crate) url: url::Url,
    /// The caller's credentials for the source: nothing that is logged.
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) digest: Option<Digest>,
    /// Query parameters that do not name the content.
    #[serde(default)]
    pub(crate) filter_query: Vec<String>,
}

/// How a fetch proceeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum FetchEvent {
    /// Bytes that are here, verified, of all.
    Progress { held: u64, length: u64 },
    /// It is here.
    Complete(FetchedLayer),
    /// The source does not let the caller have it.
    Refused { status: u16, reason: String },
    /// It is something else than the caller wants.
    OtherDigest { found: Digest },
    /// The caller is better off elsewhere.
    Failed { reason: String },
}

/// A complete, verified layer on this host's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FetchedLayer {
    /// The file with its bytes, for reading only: it is what the host gives to others.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub content: ContentId,
    /// SHA-256 of the whole.
    pub sha256: Digest,
}
