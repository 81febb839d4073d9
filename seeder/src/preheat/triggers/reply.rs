//! What both of Dragonfly's interfaces answer.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::preheat::jobs::JobRecord;
use crate::reply::refusal;

/// A job in the form of one interface, if there is one.
pub(super) fn job_answer<T: Serialize>(
    record: Option<&JobRecord>,
    form: impl FnOnce(&JobRecord) -> T,
) -> Response {
    match record {
        Some(record) => Json(form(record)).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "no such preheat job"),
    }
}

/// RFC 3339, as Go reads times.
pub(super) fn time_of(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}
