//! Registries and other HTTP servers, as the supernode reads them.

mod error;
mod headers;
mod http_clients;
mod reach;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_cluster::child_span;
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::trace;
use futures_util::future::{self, Either};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Uri, uri};
use parking_lot::Mutex;
use tracing::field::Empty;
use url::Url;

pub use self::error::SourceError;
use self::headers::{content_range, header_map, is_of_content, validator, without_callers_headers};
use self::http_clients::{HttpClients, IDLE_TIMEOUT, READ_TIMEOUT, check_url, unreachable};
use self::reach::Reach;
use crate::egress::Egress;
use crate::names::host::{PerRegistry, RegistryHost};
use crate::names::route::{Route, shown_path};
use crate::pace::Waited;
use crate::tls::RegistryTls;

/// A source whose answer has not begun by then is stuck. Pull-through caches answer when they have the
/// layer themselves; engines wait as long as this for them.
const HEAD_TIMEOUT: Duration = READ_TIMEOUT;
/// Manifests and tokens are small: one that is not here by then does not come.
const WHOLE_TIMEOUT: Duration = READ_TIMEOUT;
/// After so much silence on a kept connection the same is asked on a new one as well.
const KEPT_TIMEOUT: Duration = Duration::from_millis(500);
/// Registries whose last answer is remembered.
const MAX_ASKED: usize = 1000;
/// What a request is for that brings the content itself.
const CONTENT: &str = "content";
/// Object stores answer after one redirect; more than these are a loop.
const MAX_REDIRECTS: usize = 5;

/// How to reach sources.
#[derive(Clone, Debug, Default)]
pub struct SourceConfig {
    /// How sources are verified.
    pub tls: RegistryTls,
    /// Which HTTP proxies lead to them.
    pub egress: Egress,
    /// Limit on bytes per second read from all sources together.
    pub rate: Option<u64>,
}

/// What went over the wire from all sources.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Requests sent, probes included.
    pub requests: AtomicU64,
    /// Bytes of bodies read.
    pub bytes: AtomicU64,
}

/// An answer with a body.
pub struct SourceBody {
    /// Bytes of the whole content, when the source tells.
    pub total: Option<u64>,
    /// `ETag`, else `Last-Modified`, else empty (RFC 9110 section 8.8).
    pub validator: String,
    /// The bytes from the asked offset on.
    pub bytes: BoxStream<'static, Result<Bytes, SourceError>>,
    /// Time spent waiting for the source itself.
    pub waited: Waited,
}

/// What a one-byte request has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Bytes of the whole content, when the source tells.
    pub total: Option<u64>,
    /// Whether it is content that was answered with: a part as asked for, or a media type that no page
    /// for people has. Of use where there is no total.
    pub is_content: bool,
    /// As in [`SourceBody::validator`].
    pub validator: String,
}

/// Reads from sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    http: Arc<PerRegistry<HttpClients>>,
    egress: Egress,
    reach: Reach,
    /// When each registry answered a question last: until a moment after it a connection is kept.
    asked: Arc<Mutex<HashMap<RegistryHost, Instant>>>,
    limit: RateLimiter,
    counters: Arc<SourceCounters>,
}

impl Source {
    /// # Errors
    /// A certificate file cannot be read.
    pub fn new(config: &SourceConfig) -> anyhow::Result<Self> {
        Ok(Self {
            http: Arc::new(
                config
                    .tls
                    .per_registry(|tls| HttpClients::new(tls, &config.egress))?,
            ),
            egress: config.egress.clone(),
            reach: Reach::default(),
            asked: Arc::default(),
            limit: RateLimiter::new(config.rate),
            counters: Arc::default(),
        })
    }

    /// What went over the wire so far.
    pub fn counters(&self) -> &SourceCounters {
        &self.counters
    }

    /// Opens the content at `url` from byte `offset` on, with the caller's `headers`.
    ///
    /// # Errors
    /// The source refuses or cannot be reached.
    pub async fn open(
        &self,
        url: &Url,
        headers: &[(String, String)],
        offset: u64,
    ) -> Result<SourceBody, SourceError> {
        let mut headers = header_map(headers);
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.insert(
                header::RANGE,
                range.map_err(|_| SourceError::Nonsense("offset"))?,
            );
        }
        let reply = self.follow(url, headers, CONTENT).await?;
        let skip = match reply.status() {
            StatusCode::OK => offset,
            StatusCode::PARTIAL_CONTENT => {
                let (start, _) = content_range(reply.headers()).ok_or(SourceError::Nonsense(
                    "206 without a readable Content-Range",
                ))?;
                offset
                    .checked_sub(start)
                    .ok_or(SourceError::Nonsense("another range than asked for"))?
            }
            status => {
                return Err(SourceError::Refused {
                    status: status.as_u16(),
                });
            }
        };
        if reply
            .headers()
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(SourceError::Nonsense(
                "an encoded body although identity was asked for",
            ));
        }
        let total = match content_range(reply.headers()) {
            Some((_, total)) => total,
            None => reply.content_length(),
        };
        let waited = Waited::default();
        Ok(SourceBody {
            total,
            validator: validator(reply.headers()),
            bytes: self.counted(reply, skip, &waited),
            waited,
        })
    }

    /// Asks for one byte in the caller's name. Not `HEAD`: at Harbor each one writes to the
    /// database, and proxy-cache projects answer it with 404 for what `GET` would serve.
    ///
    /// Redirects are followed: one to an object store is a yes, one to a login page is not,
    /// and only what comes from there tells them apart.
    ///
    /// # Errors
    /// The source refuses or cannot be reached.
    pub async fn probe(
        &self,
        url: &Url,
        headers: &[(String, String)],
    ) -> Result<Permission, SourceError> {
        let mut headers = header_map(headers);
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let reply = self.follow(url, headers, "authorization").await?;
        let total = match reply.status() {
            StatusCode::OK => reply.content_length(),
            StatusCode::PARTIAL_CONTENT => {
                content_range(reply.headers()).and_then(|(_, total)| total)
            }
            // An empty blob has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => Some(0),
            status => {
                return Err(SourceError::Refused {
                    status: status.as_u16(),
                });
            }
        };
        Ok(Permission {
            total,
            is_content: reply.status() == StatusCode::PARTIAL_CONTENT
                || is_of_content(reply.headers()),
            validator: validator(reply.headers()),
        })
    }

    /// What `url` answers to a request without credentials: status and headers.
    ///
    /// # Errors
    /// The source cannot be reached.
    pub async fn ask(&self, url: &Url) -> Result<(StatusCode, HeaderMap), SourceError> {
        let mut headers = header_map(&[]);
        // Only the head matters.
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        // Not where a redirect leads: another host's challenge is not this one's.
        let reply = self.send(url, headers, "challenge").await?;
        Ok((reply.status(), reply.headers().clone()))
    }

    /// The status and the whole body of `url`, which has to have no more than `most` bytes.
    ///
    /// # Errors
    /// The source cannot be reached, or sends more.
    pub async fn fetch(
        &self,
        url: &Url,
        headers: &[(String, String)],
        most: usize,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let fetching = async {
            let reply = self.follow(url, header_map(headers), "document").await?;
            self.read_whole(reply, most).await
        };
        within(WHOLE_TIMEOUT, fetching).await
    }

    /// The same for what a form is answered with. Redirects are not followed: the form is for
    /// this host.
    ///
    /// # Errors
    /// The source cannot be reached, or sends more.
    pub async fn post_form(
        &self,
        url: &Url,
        form: String,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let posting = async {
            let (_, clients) = self.clients(url).await?;
            let request = clients.fresh.post(url.clone());
            let request = request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form);
            let reply = request.send().await.map_err(|e| unreachable(&e))?;
            self.read_whole(reply, most).await
        };
        within(WHOLE_TIMEOUT, posting).await
    }

    async fn read_whole(
        &self,
        reply: reqwest::Response,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let status = reply.status();
        let mut parts = self.counted(reply, 0, &Waited::default());
        let mut body = BytesMut::new();
        while let Some(part) = parts.next().await {
            let part = part?;
            if body.len() + part.len() > most {
                return Err(SourceError::Nonsense("more bytes than it may have"));
            }
            body.extend_from_slice(&part);
        }
        Ok((status, body.freeze()))
    }

    /// Sends, following redirects; what the caller gave stays with the origin that it was given
    /// for (RFC 9110 section 15.4): any header may be a credential.
    async fn follow(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        purpose: &'static str,
    ) -> Result<reqwest::Response, SourceError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send(&url, headers.clone(), purpose).await?;
            let status = reply.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let location = reply
                .headers()
                .get(header::LOCATION)
                .and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or(SourceError::Nonsense("a redirect to nowhere"))?;
            if next.origin() != url.origin() {
                headers = without_callers_headers(&headers);
            }
            headers.remove(header::HOST);
            if let Some(host) = location.and_then(written_host) {
                headers.insert(header::HOST, host);
            }
            url = next;
        }
        Err(SourceError::Nonsense("a loop of redirects"))
    }

    async fn send(
        &self,
        url: &Url,
        headers: HeaderMap,
        purpose: &'static str,
    ) -> Result<reqwest::Response, SourceError> {
        let span = child_span!(
            "GET",
            otel.name = format!("GET {}", Route::of(url.path())),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = "GET",
            http.response.status_code = Empty,
            url.path = shown_path(url.path()),
            server.address = url.host_str(),
            server.port = url.port_or_known_default().map(i64::from),
            "error.type" = Empty,
            flotilla.purpose = purpose,
        );
        let sent = within(HEAD_TIMEOUT, Box::pin(self.answered(url, headers, purpose))).await;
        let status = sent.as_ref().map(|reply| reply.status().as_u16());
        trace::answered(&span, status.map_err(|_| "unreachable"));
        sent
    }

    /// Sends on a connection that is not forgotten.
    async fn answered(
        &self,
        url: &Url,
        headers: HeaderMap,
        purpose: &str,
    ) -> Result<reqwest::Response, SourceError> {
        let (registry, clients) = self.clients(url).await?;
        let ask = |client: &reqwest::Client| {
            let request = client.get(url.clone()).headers(headers.clone());
            async { request.send().await }
        };
        // Engines begin a connection for each blob, too.
        let sent = if purpose == CONTENT {
            ask(&clients.fresh).await
        } else if self.may_be_kept(&registry) {
            let kept = pin!(ask(&clients.kept));
            let late = pin!(async {
                tokio::time::sleep(KEPT_TIMEOUT).await;
                ask(&clients.fresh).await
            });
            match future::select(kept, late).await {
                Either::Left((Ok(reply), _)) | Either::Right((Ok(reply), _)) => Ok(reply),
                // Closed by the server just now, or refused where the other still waits.
                Either::Left((Err(_), late)) => late.await,
                Either::Right((Err(_), kept)) => kept.await,
            }
        } else {
            ask(&clients.kept).await
        };
        match &sent {
            Ok(_) => self.note_asked(registry),
            Err(error) if error.is_connect() && error.is_timeout() => {
                self.reach.note_silence(&registry).await;
            }
            Err(_) => {}
        }
        sent.map_err(|error| unreachable(&error))
    }

    /// Whether a connection of an earlier question may be used again.
    fn may_be_kept(&self, registry: &RegistryHost) -> bool {
        let asked = self.asked.lock();
        let last = asked.get(registry);
        last.is_some_and(|last| last.elapsed() < IDLE_TIMEOUT.saturating_add(KEPT_TIMEOUT))
    }

    fn note_asked(&self, registry: RegistryHost) {
        let mut asked = self.asked.lock();
        if asked.len() > MAX_ASKED {
            asked.retain(|_, last| last.elapsed() < IDLE_TIMEOUT);
        }
        asked.insert(registry, Instant::now());
    }

    /// Counts a request to `url`, and gives what sends it.
    async fn clients(&self, url: &Url) -> Result<(RegistryHost, &HttpClients), SourceError> {
        check_url(url)?;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let registry = RegistryHost::of_url(url).ok_or(SourceError::Url("no host"))?;
        let target: Option<Uri> = url.as_str().parse().ok();
        let is_straight = target.is_none_or(|target| self.egress.way_to(&target).is_none());
        if is_straight && !self.reach.answers(&registry).await {
            let reason = format!("{registry} does not accept connections from here");
            return Err(SourceError::Unreachable(reason));
        }
        let clients = self.http.of(&registry);
        Ok((registry, clients))
    }

    fn counted(
        &self,
        reply: reqwest::Response,
        mut skip: u64,
        waited: &Waited,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let source = self.clone();
        let bytes = waited.count(reply.bytes_stream().boxed());
        let bytes = bytes.map_err(|e| unreachable(&e));
        let bytes = bytes.and_then(move |bytes| {
            let source = source.clone();
            async move {
                source.limit.acquire(bytes.len()).await;
                source
                    .counters
                    .bytes
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(bytes)
            }
        });
        let bytes = bytes.map_ok(move |mut bytes| {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= skipped as u64;
            bytes.split_off(skipped)
        });
        bytes.boxed()
    }
}

/// The host as a location has it: stores sign it, also with a port that need not be written.
fn written_host(location: &str) -> Option<HeaderValue> {
    let (_, rest) = location.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority: uri::Authority = rest.get(..end)?.parse().ok()?;
    let (host, port) = (authority.host(), authority.port_u16());
    let written = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::try_from(written).ok()
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let late = |_| SourceError::Unreachable("no answer".to_owned());
    tokio::time::timeout(limit, work).await.map_err(late)?
}
