//! One request: where it goes, and what answers it.

use std::net::SocketAddr;
use std::sync::Arc;

use flotilla_cluster::trace;
use flotilla_registry::BlobUrl;
use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture, Either};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use url::Url;

use crate::body::{self, ProxyBody};
use crate::front::connect;
use crate::front::connection::{Permit, serve_client};
use crate::front::forward::forward;
use crate::front::header_rules;
use crate::front::target::{Entrance, Target};
use crate::layers::request::BlobRequest;
use crate::layers::response::{Layers, OPEN_TIMEOUT};
use crate::layers::source::NotDelivered;
use crate::manifests::tee::{ManifestRequest, ManifestTee};
use crate::marks::{Mark, set_mark};
use crate::mirror::hosts::MirrorHosts;
use crate::mirror::locations;
use crate::mirror::naming::Mirrored;
use crate::mirror::paths::{self, MirrorTokens};
use crate::oci_error::Refusal;
use crate::pushes::uploads::Uploads;
use crate::spans;
use crate::tls::interception::{Intercepted, Interception};

/// What all connections share.
pub(crate) struct Dispatch {
    pub(crate) mirrors: MirrorHosts,
    pub(crate) interception: Option<Interception>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) manifests: ManifestTee,
    /// Blobs that seed as soon as they are pushed, where that is configured.
    pub(crate) uploads: Option<Arc<Uploads>>,
    pub(crate) tunnels: TaskTracker,
    /// Cancelled when no further request is taken.
    pub(crate) draining: CancellationToken,
    /// Cancelled when everything has to end.
    pub(crate) closed: CancellationToken,
    /// This proxy's name in `Via`, unlike that of any other.
    pub(crate) pseudonym: String,
}

impl Dispatch {
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entrance: &Entrance,
        client: SocketAddr,
        permit: &Permit,
    ) -> Response<ProxyBody> {
        // A tunnel is not answered here.
        if request.method() == Method::CONNECT {
            return self.respond(request, entrance, client, permit).await;
        }
        let span = spans::of_engine(&request);
        let responding = self.respond(request, entrance, client, permit);
        let response = trace::within(span.clone(), responding).await;
        spans::until_answered(span, response)
    }

    async fn respond(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entrance: &Entrance,
        client: SocketAddr,
        permit: &Permit,
    ) -> Response<ProxyBody> {
        if header_rules::has_passed(request.headers(), &self.pseudonym) {
            let refusal = Refusal::new(
                Mark::RequestLoop,
                StatusCode::LOOP_DETECTED,
                "UNSUPPORTED",
                "the request has come back to the proxy that sent it: its target leads here",
            );
            return self.refuse(&refusal, client);
        }
        match Target::of(&request, entrance, &self.mirrors) {
            Err(refusal) => self.refuse(&refusal, client),
            Ok(Target::Tunnel(authority)) => self.tunnel(request, authority, client, permit).await,
            Ok(Target::Upstream(target)) => Box::pin(self.fetch(request, target, client)).await,
            Ok(Target::Mirror(mirrored)) => self.mirror(request, mirrored, client).await,
        }
    }

    async fn mirror(
        &self,
        request: Request<Incoming>,
        mirrored: Mirrored,
        client: SocketAddr,
    ) -> Response<ProxyBody> {
        match mirrored {
            Mirrored::Registry { target, named } => {
                let fetching = Box::pin(self.fetch(request, target.clone(), client));
                let mut response = fetching.await;
                locations::lead_back(response.headers_mut(), &named, &target);
                response
            }
            Mirrored::Ping => paths::ping(request.headers(), &self.layers.stats),
            Mirrored::Token => {
                let tokens = MirrorTokens {
                    mirrors: &self.mirrors,
                    upstream: &self.layers.upstream,
                };
                let answered = tokens.answer(&request).await;
                answered.unwrap_or_else(|refusal| self.refuse(&refusal, client))
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, client: SocketAddr) -> Response<ProxyBody> {
        let span = tracing::info_span!("request", client.addr = %client);
        span.in_scope(|| refusal.answer(&self.layers.stats))
    }

    async fn tunnel(
        self: &Arc<Self>,
        request: Request<Incoming>,
        server: Authority,
        client: SocketAddr,
        permit: &Permit,
    ) -> Response<ProxyBody> {
        let span = tracing::debug_span!("tunnel", client.addr = %client, server.addr = %server);
        let intercepts = self.interception.as_ref().is_some_and(|i| i.wants(&server));
        let tunnel = if intercepts {
            Arc::clone(self).intercept(request, server, client, permit.clone())
        } else {
            match connect::dial(&server, self.layers.upstream.connector()).await {
                Err(refusal) => return span.in_scope(|| refusal.answer(&self.layers.stats)),
                Ok(server) => {
                    let stats = Arc::clone(&self.layers.stats);
                    connect::tunnel(request, server, stats).boxed()
                }
            }
        };
        let closed = self.closed.clone();
        let tunnel = tunnel.instrument(span);
        let permit = permit.clone();
        self.tunnels.spawn(async move {
            closed.run_until_cancelled(tunnel).await;
            drop(permit);
        });
        Response::new(body::empty())
    }

    /// Ends the client's TLS here and answers its requests. Boxed, as answering them comes
    /// back to [`Self::answer`].
    fn intercept(
        self: Arc<Self>,
        request: Request<Incoming>,
        server: Authority,
        client: SocketAddr,
        permit: Permit,
    ) -> BoxFuture<'static, ()> {
        let intercepted = async move {
            let Some(interception) = &self.interception else {
                return;
            };
            match interception.accept(request, &server).await {
                Ok(Intercepted { stream, registry }) => {
                    let entrance = Entrance::Tunnel(registry);
                    serve_client(Arc::clone(&self), stream, entrance, client, permit).await;
                }
                Err(error) => set_mark!(self.layers.stats, error.mark(), reason = %error),
            }
        };
        intercepted.boxed()
    }

    async fn fetch(
        &self,
        mut request: Request<Incoming>,
        target: Uri,
        client: SocketAddr,
    ) -> Response<ProxyBody> {
        let unwrapped = paths::unwrap_credentials(request.headers_mut(), &target);
        if let Err(refusal) = unwrapped {
            return self.refuse(&refusal, client);
        }
        trace::current().record("server.address", target.host());
        let Some(blob) = BlobRequest::recognise(request.method(), &target, request.headers())
        else {
            let span = tracing::debug_span!("request", client.addr = %client, path = target.path());
            return self.pass(request, target).instrument(span).await;
        };
        let span = tracing::info_span!(
            "request",
            client.addr = %client,
            repository = %blob.repository,
            digest = %blob.digest
        );
        trace::current().record("flotilla.digest", tracing::field::display(&blob.digest));
        let answering = self.answer_layer(request, target, &blob);
        answering.instrument(span).await
    }

    /// From the swarm, or from the registry if that answers first once the swarm has been given its time.
    async fn answer_layer(
        &self,
        request: Request<Incoming>,
        target: Uri,
        blob: &BlobRequest,
    ) -> Response<ProxyBody> {
        let (headers, to) = (request.headers().clone(), target.clone());
        let mut opening = Box::pin(self.layers.answer(blob, &to, &headers));
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening.as_mut()).await;
        let not_delivered = match opened {
            Ok(Ok(response)) => return response,
            Ok(Err(not_delivered)) => not_delivered,
            Err(_) => {
                let reason = format!("no answer within {OPEN_TIMEOUT:?}");
                let late = NotDelivered::new(Mark::OpenTimedOut, &reason);
                let passing = Box::pin(self.pass_undelivered(&late, request, target));
                return match future::select(opening, passing).await {
                    Either::Left((Ok(response), _)) | Either::Right((response, _)) => response,
                    Either::Left((Err(_), passing)) => passing.await,
                };
            }
        };
        self.pass_undelivered(&not_delivered, request, target).await
    }

    async fn pass_undelivered(
        &self,
        NotDelivered { mark, reason }: &NotDelivered,
        request: Request<Incoming>,
        target: Uri,
    ) -> Response<ProxyBody> {
        set_mark!(self.layers.stats, *mark, reason);
        spans::registry_reason(&trace::current(), reason);
        self.pass(request, target).await
    }

    async fn pass(&self, request: Request<Incoming>, target: Uri) -> Response<ProxyBody> {
        self.layers.stats.count_pass();
        tracing::debug!(method = %request.method(), "request passes through");
        spans::answered_by("registry");
        let span = spans::to_registry(request.method(), &target);
        let (method, asked) = (request.method().clone(), target.clone());
        let response = self.pass_on(request, target).await;
        if is_gone(&method, response.status())
            && let Ok(url) = Url::parse(&asked.to_string())
            && BlobUrl::of(&url).is_some()
        {
            self.layers.callers.forget(&url).await;
        }
        trace::answered(&span, Ok(response.status().as_u16()));
        response
    }

    async fn pass_on(&self, request: Request<Incoming>, target: Uri) -> Response<ProxyBody> {
        let via = HeaderValue::try_from(format!("1.1 {}", self.pseudonym));
        let via = via.unwrap_or_else(|_| HeaderValue::from_static("1.1 flotilla"));
        if let Some(asked) = ManifestRequest::recognise(request.method(), &target) {
            let response = forward(&self.layers.upstream, request, target, via, None).await;
            return self.manifests.listen(asked, response);
        }
        let Some(uploads) = &self.uploads else {
            return forward(&self.layers.upstream, request, target, via, None).await;
        };
        let begun = uploads.begin(&request, &target);
        let (passing, tee) = begun.unzip();
        let response = forward(&self.layers.upstream, request, target, via, tee.flatten()).await;
        if let Some(pushed) = passing.and_then(|passing| uploads.answered(passing, &response)) {
            let (layers, closed) = (Arc::clone(&self.layers), self.closed.clone());
            let seeding = async move { closed.run_until_cancelled(layers.seed(pushed)).await };
            tokio::spawn(seeding.in_current_span());
        }
        response
    }
}

/// Whether an answer about a blob says that its registry does not have it any longer.
fn is_gone(method: &Method, status: StatusCode) -> bool {
    let is_missing = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    match *method {
        Method::DELETE => status.is_success() || is_missing,
        Method::GET | Method::HEAD => is_missing,
        _ => false,
    }
}
