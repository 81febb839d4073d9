//! The side that faces engines and registries: takes connections, dispatches requests, and passes
//! everything but layers through unchanged.

pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod continue_gate;
pub(crate) mod dispatch;
pub(crate) mod forward;
pub(crate) mod header_rules;
pub(crate) mod http_limits;
pub(crate) mod idle;
pub(crate) mod link_local;
pub(crate) mod server;
pub(crate) mod target;
pub(crate) mod upstream;
