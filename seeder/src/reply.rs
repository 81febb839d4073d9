//! Answers that every part of the API gives.

use axum::extract::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

/// An error, in words.
pub(crate) fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
