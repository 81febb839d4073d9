//! Answers the `GET` of a layer from the swarm, if this caller may have it.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::Digest;
use futures_util::future::{self, Either};
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};
use http_body_util::StreamBody;
use tokio::sync::Semaphore;
use url::Url;

use crate::body::{ProxyBody, boxed};
use crate::front::upstream::Upstream;
use crate::layers::body::LayerBody;
use crate::layers::caller_check::CallerCheck;
use crate::layers::fallback::{RegistryBlob, RegistryBytes};
use crate::layers::request::BlobRequest;
use crate::layers::source::{LayerRequest, LayerSource, NotDelivered, SwarmLayer};
use crate::manifests::image_names::ImageNames;
use crate::manifests::tee::repository_at;
use crate::marks::{Mark, set_mark};
use crate::oci_error::Refusal;
use crate::pushes::tee::Kept;
use crate::pushes::uploads::Pushed;
use crate::spans;
use crate::stats::ProxyStats;

/// For a supernode that waits for the registry; after it the registry is asked as well, and whichever
/// answers first does. Engines wait 30 seconds for a response head.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest range of a lazy reader (estargz, zstd:chunked, SOCI): programs wait for just these
/// bytes, which may be the layer's last ones. A reader of more reads all of it: it waits for the
/// swarm, so that the registry does not send it twice. As long as SOCI's spans.
const MAX_LAZY_LENGTH: u64 = 4 * 1024 * 1024;
/// For a lazily read range to be published before the registry is asked for it. About as long as
/// asking takes, so that bytes that are just arriving are not sent twice.
const LAZY_TIMEOUT: Duration = Duration::from_millis(250);

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers for layers.
pub(crate) struct Layers {
    pub(crate) source: Arc<dyn LayerSource>,
    pub(crate) callers: CallerCheck,
    pub(crate) upstream: Upstream,
    pub(crate) stats: Arc<ProxyStats>,
    /// The names of the images of layers.
    pub(crate) names: ImageNames,
    /// Limits the pushed layers that are hashed at the same time: the next pushes need the machine too.
    pub(crate) keeping: Semaphore,
}

impl Layers {
    /// The response, or why the request goes to the registry as it came.
    ///
    /// # Errors
    /// The caller is not authorized yet, or the swarm does not deliver. In both cases the registry's
    /// own answer is the right one.
    pub(crate) async fn answer(
        &self,
        blob: &BlobRequest,
        target: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<ProxyBody>, NotDelivered> {
        let url = Url::parse(&target.to_string())
            .map_err(|error| NotDelivered::new(Mark::UrlNotUnderstood, &error))?;
        let credentials = credentials(headers)?;
        let layer = match self.source.local(&blob.digest, &url).await {
            Some(layer) => {
                let length = layer.length();
                self.callers.admit(&url, &credentials, length).await?;
                spans::answered_by("cache");
                layer
            }
            None => {
                let repository = repository_at(target, &blob.prefix, &blob.repository);
                let layer = self.source.open(LayerRequest {
                    url,
                    headers: credentials,
                    digest: blob.digest.clone(),
                    images: self.names.of(&repository, &blob.digest),
                    length: self.names.length_of(&blob.digest),
                });
                let layer = layer.await?;
                spans::answered_by("swarm");
                layer
            }
        };
        let length = layer.length();
        let range = match blob.range.map(|range| range.of(length)) {
            None => 0..length,
            Some(Some(range)) => range,
            // It begins past the end.
            Some(None) => return Ok(unsatisfiable(length, &self.stats)),
        };
        let registry = RegistryBlob::new(self.upstream.clone(), target.clone(), headers, length);
        let is_lazy = blob.range.is_some_and(|range| range.has_end())
            && range.end - range.start <= MAX_LAZY_LENGTH;
        let ahead = if is_lazy {
            bytes_ahead(layer.as_ref(), &range, &registry, &self.stats).await
        } else {
            None
        };
        let stats = Arc::clone(&self.stats);
        let body = LayerBody::new(layer, range.clone(), ahead, registry, stats);
        self.stats.count_layer();
        let mut response = Response::new(boxed(StreamBody::new(body.frames())));
        describe(
            &mut response,
            &blob.digest,
            length,
            &range,
            blob.range.is_some(),
        );
        Ok(response)
    }

    /// Makes a blob that was pushed seed: from what was kept of it, else by having the supernode
    /// read it.
    pub(crate) async fn seed(&self, pushed: Pushed) {
        let headers = match credentials(&pushed.headers) {
            Ok(headers) => headers,
            Err(NotDelivered { reason, .. }) => {
                return set_mark!(self.stats, Mark::PushNotSeeded, reason);
            }
        };
        let request = LayerRequest {
            url: pushed.url,
            headers,
            digest: pushed.digest,
            images: Vec::new(),
            length: None,
        };
        let digest = request.digest.clone();
        let NotDelivered { mark, reason } = match self.keep(pushed.kept, request.clone()).await {
            Ok(()) => {
                self.stats.count_kept();
                return tracing::debug!(%digest, "pushed layer seeds");
            }
            Err(not_kept) => not_kept,
        };
        set_mark!(self.stats, mark, %digest, reason);
        match self.open(request).await {
            Ok(layer) => tracing::debug!(%digest, bytes = layer.length(), "pushed layer opened"),
            Err(NotDelivered { reason, .. }) => {
                set_mark!(self.stats, Mark::PushNotSeeded, %digest, reason);
            }
        }
    }

    async fn keep(&self, kept: Option<Kept>, request: LayerRequest) -> Result<(), NotDelivered> {
        let not_kept = || NotDelivered::new(Mark::PushReadBack, "there is no copy of the push");
        let spool = kept.ok_or_else(not_kept)?.written().await;
        let spool = spool.ok_or_else(not_kept)?;
        // The semaphore is never closed.
        let _turn = self.keeping.acquire().await.map_err(|_| not_kept())?;
        self.source.keep(spool, request).await
    }

    /// Asks the cluster for what no engine waits for.
    async fn open(&self, request: LayerRequest) -> Result<Box<dyn SwarmLayer>, NotDelivered> {
        let opening = tokio::time::timeout(OPEN_TIMEOUT, self.source.open(request));
        match opening.await {
            Ok(opened) => opened,
            Err(_) => Err(NotDelivered::new(
                Mark::OpenTimedOut,
                &format!("no answer within {OPEN_TIMEOUT:?}"),
            )),
        }
    }
}

/// A range that the swarm will not hear of soon, from the registry. A reader of the footer would
/// otherwise wait for the whole layer.
async fn bytes_ahead(
    layer: &dyn SwarmLayer,
    range: &Range<u64>,
    registry: &RegistryBlob,
    stats: &ProxyStats,
) -> Option<RegistryBytes> {
    let mut published = pin!(layer.published(range.clone()));
    let arriving = tokio::time::timeout(LAZY_TIMEOUT, published.as_mut());
    if arriving.await.is_ok() {
        return None;
    }
    match future::select(pin!(registry.open_exactly(range)), published).await {
        Either::Left((Ok(bytes), _)) => {
            set_mark!(stats, Mark::LazyRange, ?range);
            Some(bytes)
        }
        Either::Left((Err(error), _)) => {
            set_mark!(stats, Mark::LazyRangeWaits, ?range, reason = %error);
            None
        }
        Either::Right(((), _)) => None,
    }
}

/// The caller's credentials, and what program it is: there are firewalls that let only engines through.
/// With two credentials the registry shall say which one counts.
fn credentials(headers: &HeaderMap) -> Result<Vec<(String, String)>, NotDelivered> {
    let unclear = |reason| NotDelivered::new(Mark::CredentialsUnclear, reason);
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let authorization = match (values.next().map(HeaderValue::to_str), values.next()) {
        (None, _) => None,
        (Some(Ok(value)), None) => Some(("Authorization".to_owned(), value.to_owned())),
        (Some(Err(_)), None) => return Err(unclear("the Authorization is not text")),
        (Some(_), Some(_)) => return Err(unclear("more than one Authorization")),
    };
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let agent = agent.map(|agent| ("User-Agent".to_owned(), agent.to_owned()));
    Ok(authorization.into_iter().chain(agent).collect())
}

/// The headers that registries send with a blob.
fn describe(
    response: &mut Response<ProxyBody>,
    digest: &Digest,
    length: u64,
    range: &Range<u64>,
    is_partial: bool,
) {
    if is_partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    let texts = [
        (DOCKER_CONTENT_DIGEST, Some(digest.to_string())),
        (ETAG, Some(format!("\"{digest}\""))),
        (
            CONTENT_RANGE,
            is_partial.then(|| {
                format!(
                    "bytes {}-{}/{length}",
                    range.start,
                    range.end.saturating_sub(1)
                )
            }),
        ),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
}

/// RFC 9110 section 15.5.17.
fn unsatisfiable(length: u64, stats: &ProxyStats) -> Response<ProxyBody> {
    let refusal = Refusal::new(
        Mark::RangeUnsatisfiable,
        StatusCode::RANGE_NOT_SATISFIABLE,
        "RANGE_INVALID",
        format!("the blob has {length} bytes"),
    );
    let mut response = refusal.answer(stats);
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}
