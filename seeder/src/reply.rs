//! Answers that every part of the API gives.

use axum::extract::{FromRequest, Json, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

/// An error, in words.
pub(crate) fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}

/// The JSON of a request. One that cannot be read is refused as everything else is.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    Json<T>: FromRequest<S, Rejection = axum::extract::rejection::JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refusal(rejection.status(), &rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::header;

    use super::*;

    async fn refused(content_type: &str, body: &'static str) -> (u16, serde_json::Value) {
        let request = Request::builder().header(header::CONTENT_TYPE, content_type);
        let request = request.body(Body::from(body)).unwrap();
        let read = JsonBody::<Vec<u8>>::from_request(request, &()).await;
        let response = read.map(|JsonBody(numbers)| numbers).unwrap_err();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_read_is_refused_in_json() {
        for (content_type, body, expected) in [
            ("application/json", "[1", 400),
            ("text/plain", "[1]", 415),
            ("application/json", "[\"one\"]", 422),
        ] {
            let (status, answer) = refused(content_type, body).await;
            assert_eq!(status, expected, "{answer}");
            assert!(answer["error"].is_string(), "{answer}");
        }
    }
}
