//! What both of Dragonfly's interfaces answer.

use std::time::{Duration, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::response::Response;

use crate::reply::refusal;

pub(super) fn no_such_job() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such preheat job")
}

/// RFC 3339, as Go reads times.
pub(super) fn time_of(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}
