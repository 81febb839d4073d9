//! The cluster API over HTTP.

mod admitted;
pub(crate) mod join_token;
pub(crate) mod metrics_server;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod state;
mod swarms;
