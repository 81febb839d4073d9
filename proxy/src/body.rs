//! The bodies that flow through the proxy.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Incoming};

/// Whatever made a body break off; hyper only closes the connection on it.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// One body type for all sources. An alias, because hyper's traits are on the boxed type.
pub(crate) type ProxyBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that streams from a peer of the proxy.
pub(crate) fn streamed(incoming: Incoming) -> ProxyBody {
    boxed(incoming)
}

pub(crate) fn boxed<B>(body: B) -> ProxyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub(crate) fn empty() -> ProxyBody {
    boxed(Empty::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ProxyBody {
    boxed(Full::new(bytes.into()))
}
