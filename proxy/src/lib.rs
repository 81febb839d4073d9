//! The container engines' proxy.
//!
//! Everything passes through to the registry unchanged, except `GET` of a layer blob: that
//! comes from the swarm, and from the registry inside the same response where the swarm does
//! not deliver.
//!
//! ```text
//! server -> dispatch -> target            where does this request go
//!                    -> connect           CONNECT: an opaque tunnel, or for a listed registry
//!                    -> interception      TLS ended here, then again from the top
//!                    -> path_mirror         mirrors named in the path: tokens, locations
//!                    -> blob_request      a layer? then
//!                       layer_response    authorize, open, answer
//!                       layer_body        bytes: swarm, else fallback (registry)
//!                    -> forward           everything else
//!                       push_uploads      of which uploads are kept
//! ```

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod blob_request;
mod body;
mod caller_check;
mod certificate_authority;
mod checked_content;
mod connect;
mod continue_gate;
mod dispatch;
mod fallback;
mod forward;
mod header_rules;
mod idle;
mod image_names;
mod interception;
mod layer_body;
mod layer_response;
mod layer_source;
mod link_local;
mod manifest_tee;
mod metrics;
mod mirror_hosts;
mod node_layers;
mod oci_error;
mod path_mirror;
mod push_tee;
mod push_uploads;
mod pushed;
mod range;
mod server;
mod stats;
mod target;
mod traced;
mod upstream;

pub use self::checked_content::CheckedContent;
pub use self::interception::InterceptConfig;
pub use self::layer_source::{LayerRequest, LayerSource, NotDelivered, ReadFailure, SwarmLayer};
pub use self::metrics::metrics;
pub use self::server::{Proxy, ProxyConfig};
pub use self::stats::{ProxyCounts, ProxyStats};
