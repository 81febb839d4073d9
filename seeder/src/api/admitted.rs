//! Checks the ticket of a request for a swarm, before its handler runs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use flotilla_client::SwarmHandle;
use flotilla_cluster::{SignedTicket, unix_now};
use flotilla_torrents::InfoHash;

use crate::api::state::Api;
use crate::reply::refusal;

/// The swarm that the path names and the ticket is for.
pub(super) struct Admitted(pub(super) InfoHash);

/// That swarm, which runs here.
pub(super) struct AdmittedTo(pub(super) SwarmHandle);

impl FromRequestParts<Arc<Api>> for Admitted {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Response> {
        let Path(swarm) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|rejection| rejection.into_response())?;
        let swarm: InfoHash = swarm.parse().map_err(|_| {
            let error = "a swarm is named by 40 hexadecimal digits";
            refusal(StatusCode::BAD_REQUEST, error)
        })?;
        let ticket: Option<SignedTicket> = parts
            .headers
            .get(SignedTicket::HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let admits = |ticket: &SignedTicket| {
            let verified = api.ticket_key.verify_any_peer(ticket, unix_now(), swarm);
            verified.is_ok()
        };
        if !ticket.as_ref().is_some_and(admits) {
            let error = "no valid ticket for this swarm";
            return Err(refusal(StatusCode::FORBIDDEN, error));
        }
        Ok(Self(swarm))
    }
}

impl FromRequestParts<Arc<Api>> for AdmittedTo {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Response> {
        let Admitted(swarm) = Admitted::from_request_parts(parts, api).await?;
        let handle = api.opener.running(&swarm);
        let handle = handle.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "no such swarm here"))?;
        Ok(Self(handle))
    }
}
