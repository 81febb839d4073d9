//! Why a trigger's request leads to no job.

use axum::http::StatusCode;
use axum::response::Response;

use crate::preheat::image_url::ImageUrlError;
use crate::preheat::jobs::SubmitError;
use crate::reply::refusal;

/// Why a trigger's request leads to no job.
#[derive(Debug, thiserror::Error)]
pub(super) enum TriggerError {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Image(#[from] ImageUrlError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl TriggerError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Image(_) => StatusCode::BAD_REQUEST,
            Self::Submit(error) => error.status(),
        }
    }

    pub(super) fn answer(&self) -> Response {
        refusal(self.status(), &self.to_string())
    }
}
