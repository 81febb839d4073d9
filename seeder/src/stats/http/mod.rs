//! The page, its API and the metrics over HTTP.

pub(super) mod api;
pub(super) mod events;
pub(super) mod login;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod router;
