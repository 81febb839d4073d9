//! One request: where it goes and who answers it.

use std::net::SocketAddr;

use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::blob_request::BlobRequest;
use crate::body::{self, ProxyBody};
use crate::connect;
use crate::forward::forward;
use crate::header_rules;
use crate::layer_response::Layers;
use crate::mirror_hosts::MirrorHosts;
use crate::oci_error::Refusal;
use crate::target::Target;

/// What all connections share.
pub(crate) struct Dispatch {
    pub(crate) mirrors: MirrorHosts,
    pub(crate) layers: Layers,
    pub(crate) tunnels: TaskTracker,
    /// Cancelled when nothing may go on any longer.
    pub(crate) closed: CancellationToken,
    /// This proxy's name in `Via`, unlike that of any other.
    pub(crate) pseudonym: String,
}

impl Dispatch {
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Response<ProxyBody> {
        if header_rules::has_passed(request.headers(), &self.pseudonym) {
            let message =
                "the request has come back to the proxy that sent it: its target leads here";
            return Refusal::new(StatusCode::LOOP_DETECTED, "UNSUPPORTED", message).into();
        }
        match Target::of(&request, &self.mirrors) {
            Err(refusal) => {
                tracing::debug!(client.addr = %client, status = %refusal.status, reason = refusal.message, "refused");
                refusal.into()
            }
            Ok(Target::Tunnel(authority)) => match connect::dial(&authority).await {
                Err(refusal) => refusal.into(),
                Ok(server) => {
                    let span = tracing::debug_span!("tunnel", client.addr = %client, server.addr = %authority);
                    let closed = self.closed.clone();
                    let tunnel = connect::tunnel(request, server).instrument(span);
                    self.tunnels
                        .spawn(async move { closed.run_until_cancelled(tunnel).await });
                    Response::new(body::empty())
                }
            },
            Ok(Target::Upstream(target)) => self.fetch(request, target, client).await,
        }
    }

    async fn fetch(
        &self,
        request: Request<Incoming>,
        target: Uri,
        client: SocketAddr,
    ) -> Response<ProxyBody> {
        let Some(blob) = BlobRequest::recognise(request.method(), &target, request.headers())
        else {
            let span = tracing::debug_span!("request", client.addr = %client, path = target.path());
            return self.pass(request, target).instrument(span).await;
        };
        let span = tracing::info_span!(
            "request",
            client.addr = %client,
            repository = blob.repository,
            digest = %blob.digest
        );
        let answering = async {
            match self.layers.answer(&blob, &target, request.headers()).await {
                Ok(response) => response,
                Err(reason) => {
                    tracing::debug!(%reason, "passing through");
                    self.pass(request, target).await
                }
            }
        };
        answering.instrument(span).await
    }

    async fn pass(&self, request: Request<Incoming>, target: Uri) -> Response<ProxyBody> {
        self.layers.stats.count_pass();
        tracing::debug!(method = %request.method(), "passed through");
        let via = HeaderValue::try_from(format!("1.1 {}", self.pseudonym));
        let via = via.unwrap_or_else(|_| HeaderValue::from_static("1.1 flotilla"));
        forward(&self.layers.upstream, request, target, via).await
    }
}
