//! Registries and other HTTP servers, as the supernode reads them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_cluster::child_span;
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::trace;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tracing::field::Empty;
use url::{Host, Url};

use crate::link_local as source_address;
use crate::names::host::{PerRegistry, RegistryHost};
use crate::names::route::{Route, shown_path};
use crate::pace::Waited;
use crate::tls::RegistryTls;

/// A source that does not accept a connection by then is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A source that sends nothing for so long has broken the connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A source whose answer has not begun by then is stuck; callers of the same content wait.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Manifests and tokens are small: one that is not here by then does not come.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Object stores answer after one redirect; more than these are a loop.
const MAX_REDIRECTS: usize = 5;

/// How to reach sources.
#[derive(Clone, Debug, Default)]
pub struct SourceConfig {
    /// How sources are verified.
    pub tls: RegistryTls,
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

/// Why a source does not deliver, by who is to blame.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It refuses this caller, or does not have it.
    #[error("the source answered {status}")]
    Refused {
        /// Its HTTP status.
        status: u16,
    },
    /// It cannot be reached, or the connection broke.
    #[error("the source cannot be reached: {0}")]
    Unreachable(String),
    /// The URL is not one that a supernode fetches.
    #[error("not a URL to fetch: {0}")]
    Url(&'static str),
    /// It answered against the rules of HTTP.
    #[error("the source's answer is malformed: {0}")]
    Nonsense(&'static str),
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
    /// As in [`SourceBody::validator`].
    pub validator: String,
}

/// Reads from sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    http: PerRegistry<reqwest::Client>,
    limit: RateLimiter,
    counters: Arc<SourceCounters>,
}

impl Source {
    /// # Errors
    /// A certificate file cannot be read.
    pub fn new(config: &SourceConfig) -> anyhow::Result<Self> {
        Ok(Self {
            http: config.tls.per_registry(client)?,
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
        let reply = self.follow(url, headers, "content").await?;
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
            let request = self.client(url)?.post(url.clone());
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
        let request = self.client(url)?.get(url.clone()).headers(headers);
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
        let sent = async { request.send().await.map_err(|e| unreachable(&e)) };
        let sent = within(HEAD_TIMEOUT, sent).await;
        let status = sent.as_ref().map(|reply| reply.status().as_u16());
        trace::answered(&span, status.map_err(|_| "unreachable"));
        sent
    }

    /// Counts a request to `url`, and gives what sends it.
    fn client(&self, url: &Url) -> Result<&reqwest::Client, SourceError> {
        check_url(url)?;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let registry = RegistryHost::of_url(url).ok_or(SourceError::Url("no host"))?;
        Ok(self.http.of(&registry))
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

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let late = |_| SourceError::Unreachable("no answer".to_owned());
    tokio::time::timeout(limit, work).await.map_err(late)?
}

fn client(tls: rustls::ClientConfig) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        // Odd fields that reverse proxies add and engines take: unfolded, or left out.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .no_proxy()
        .dns_resolver(Arc::new(source_address::Resolver))
        .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")));
    Ok(builder.build()?)
}

/// A cluster member names the URL. What clouds tell this host alone, at link-local addresses,
/// is not for him; names are looked at when they are [resolved](source_address::Resolver).
fn check_url(url: &Url) -> Result<(), SourceError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SourceError::Url("neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::Url("credentials belong into a header"));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
        None => return Err(SourceError::Url("no host")),
    };
    if literal.is_some_and(source_address::is_link_local) {
        return Err(SourceError::Url("link-local address"));
    }
    Ok(())
}

fn header_map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value))
            && !is_ours(&name)
        {
            map.append(name, value);
        }
    }
    map.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    map
}

/// Headers that this request sets or leaves out by itself: the body has to be the content's own
/// bytes, all of them, and the connection is shared (RFC 9110 section 7.6.1).
fn is_ours(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 17] = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::ACCEPT_ENCODING,
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::CONNECTION,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
    ];
    OURS.contains(name)
}

fn without_callers_headers(headers: &HeaderMap) -> HeaderMap {
    let own = [header::RANGE, header::ACCEPT_ENCODING, header::ACCEPT];
    let mut kept = HeaderMap::new();
    for name in own {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// First byte and total of `Content-Range: bytes first-last/total` (RFC 9110 section 14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    Some((first.parse().ok()?, total))
}

fn validator(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::ETAG)
        .or_else(|| headers.get(header::LAST_MODIFIED));
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// The innermost cause; the outer ones repeat the URL, which may hold a signature.
fn unreachable(error: &reqwest::Error) -> SourceError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    SourceError::Unreachable(cause.to_string())
}
