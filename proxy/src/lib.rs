//! The container engines' proxy.
//!
//! Everything passes through to the registry unchanged, except `GET` of a layer blob: that
//! comes from the swarm, and from the registry inside the same response where the swarm does
//! not deliver.
//!
//! ```text
//! front/server -> front/dispatch -> front/target       where does this request go
//!                                -> front/connect      CONNECT: an opaque tunnel, or for a listed registry
//!                                -> tls/interception   TLS ended here, then again from the top
//!                                -> mirror/paths       mirrors named in the path: tokens, locations
//!                                -> layers/request     a layer? then
//!                                   layers/response    authorize, open, answer
//!                                   layers/body        bytes: swarm, else layers/fallback (registry)
//!                                -> front/forward      everything else
//!                                   pushes/uploads     of which uploads are kept
//! ```

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod authority;
mod body;
mod front;
mod layers;
mod manifests;
mod marks;
mod metrics;
mod mirror;
mod oci_error;
mod pushes;
mod spans;
mod stats;
mod tls;

pub use self::front::server::{Proxy, ProxyConfig};
pub use self::layers::checked_content::CheckedContent;
pub use self::layers::source::{LayerRequest, LayerSource, NotDelivered, ReadFailure, SwarmLayer};
pub use self::marks::{Mark, MarkKind};
pub use self::metrics::metrics;
pub use self::stats::{ProxyCounts, ProxyStats};
pub use self::tls::interception::InterceptConfig;
