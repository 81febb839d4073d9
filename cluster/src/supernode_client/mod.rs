//! Speaks the cluster API of the supernodes, and knows which of them are healthy.

mod error;
mod preheats;
mod supernodes;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_torrents::InfoHash;
use flotilla_torrents::tracker_wire::{AnnounceReply, AnnounceRequest};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use reqwest::{StatusCode, header};
use serde::de::DeserializeOwned;
use tracing::field::Empty;
use url::Url;

use crate::SignedTicket;
use crate::child_span;
use crate::messages::node_report::NodeReport;
use crate::messages::paths;
use crate::messages::swarms::{Hello, OpenRequest, OpenResponse, RegisteredTorrent, SwarmEvent};
use crate::rate_limit::RateLimiter;
use crate::redact::root_cause;
use crate::trace::{self, TraceParent};

pub use self::error::SupernodeError;
pub use self::supernodes::Supernodes;

/// A supernode in the same cluster answers a connection attempt in a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// For answers that take a supernode's work.
const OPEN_TIMEOUT: Duration = Duration::from_secs(25);
/// Opening waits for the source's answer, a little longer than the supernode does. One that falls silent
/// is known much earlier.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(5 * 60 + 10);
/// While it waits for the source, the supernode sends white space twice a second.
const OPEN_IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Without a byte taken of what it is given; at the end it hashes the whole.
const GIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A supernode that failed is not asked again before this.
const AVOID_TIME: Duration = Duration::from_secs(3);
/// Sources with which one supernode may be left alone at the same time.
const MAX_FAILING_SOURCES: usize = 1024;
/// For so long at most, whatever it says.
const MAX_AVOID_TIME: Duration = Duration::from_secs(300);
/// The largest answer that is read: an announce reply with 200 peers has 2 KiB, a line of
/// the event stream with all hashes of the largest layer 40 MiB.
const MAX_REPLY_BYTES: usize = 256 * 1024;
const MAX_EVENT_BYTES: usize = 48 * 1024 * 1024;
/// The supernode sends a heartbeat every second.
const EVENT_TIMEOUT: Duration = Duration::from_millis(2500);

/// One supernode.
#[derive(Clone, Debug)]
pub struct Supernode(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: Url,
    authorization: Option<String>,
    http: reqwest::Client,
    failed: Mutex<Option<Failure>>,
    /// Sources that it could not bring anything of, and until when it is left alone with them.
    failing_sources: Mutex<HashMap<String, FailingSource>>,
    greeted: AtomicBool,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    reason: String,
}

#[derive(Debug)]
struct FailingSource {
    since: Instant,
    until: Instant,
    reason: String,
}

impl Supernode {
    fn new(url: Url, join_token: Option<&str>, http: reqwest::Client) -> Self {
        let authorization = join_token.map(|token| format!("Bearer {token}"));
        Self(Arc::new(Inner {
            url,
            authorization,
            http,
            failed: Mutex::new(None),
            failing_sources: Mutex::default(),
            greeted: AtomicBool::new(false),
        }))
    }

    /// The base of its API.
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// Its identity, and the key of the tickets to trust.
    pub async fn hello(&self) -> Result<Hello, SupernodeError> {
        let reply = self
            .call(self.get(paths::HELLO).timeout(CALL_TIMEOUT))
            .await?;
        let bytes = self.read_bounded(reply, MAX_REPLY_BYTES).await?;
        let hello = serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))?;
        self.0.greeted.store(true, Ordering::Relaxed);
        Ok(hello)
    }

    /// Whether it said hello since it last failed; it may have come back with another key.
    pub fn is_greeted(&self) -> bool {
        self.0.greeted.load(Ordering::Relaxed)
    }

    /// Leaves it alone with content of `source` for this long: it cannot bring any.
    pub fn avoid_for_source(&self, source: &str, time: Duration, reason: String) {
        let now = Instant::now();
        let mut failing = self.0.failing_sources.lock();
        failing.retain(|_, failing| failing.until > now);
        if failing.len() < MAX_FAILING_SOURCES {
            let until = now + time.min(MAX_AVOID_TIME);
            tracing::warn!(supernode = %self.0.url, source, reason, ?time, "supernode left alone with a source");
            let since = now;
            failing.insert(
                source.to_owned(),
                FailingSource {
                    since,
                    until,
                    reason,
                },
            );
        }
    }

    /// Since when, and why, it is left alone with content of `source`.
    pub fn avoided_for_source(&self, source: &str) -> Option<(Duration, String)> {
        let now = Instant::now();
        let failing = self.0.failing_sources.lock();
        let failing = failing.get(source).filter(|failing| failing.until > now)?;
        Some((now - failing.since, failing.reason.clone()))
    }

    /// It brings content of `source` again.
    pub fn note_source_well(&self, source: &str) {
        self.0.failing_sources.lock().remove(source);
    }

    /// Asks for a swarm; waits for the source's answer.
    pub async fn open(&self, request: &OpenRequest) -> Result<OpenResponse, SupernodeError> {
        let url = self.endpoint(paths::SWARMS);
        let span = child_span!(
            "POST",
            otel.name = "POST /v1/swarms",
            otel.kind = "client",
            http.request.method = "POST",
            url.path = paths::SWARMS,
            server.address = url.host_str(),
            server.port = url.port_or_known_default().map(i64::from),
            http.response.status_code = Empty,
            otel.status_code = Empty,
            "error.type" = Empty,
        );
        let mut post = self
            .member(self.0.http.post(url))
            .timeout(SOURCE_TIMEOUT)
            .json(request);
        if let Some(parent) = trace::traceparent_of(&span) {
            post = post.header(TraceParent::HEADER, parent.to_string());
        }
        let opening = async {
            let answered = tokio::time::timeout(OPEN_IDLE_TIMEOUT, self.call(post)).await;
            let reply = answered.map_err(|_| self.silent())??;
            let bytes = self.read(reply, MAX_REPLY_BYTES, OPEN_IDLE_TIMEOUT).await?;
            serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))
        };
        let opened = opening.await;
        let status = opened.as_ref().map(|_| StatusCode::OK.as_u16());
        trace::answered(&span, status.map_err(SupernodeError::kind));
        opened
    }

    /// The events of a swarm until the supernode ends them or falls silent.
    pub async fn events(
        &self,
        swarm: InfoHash,
        ticket: &SignedTicket,
    ) -> Result<BoxStream<'static, Result<SwarmEvent, SupernodeError>>, SupernodeError> {
        let get = self
            .get(&paths::with(paths::SWARM_EVENTS, swarm))
            .header(SignedTicket::HEADER, ticket.to_string());
        let sent = tokio::time::timeout(CALL_TIMEOUT, self.call(get)).await;
        let reply = sent.map_err(|_| self.silent())??;
        Ok(Box::pin(events_of(self.clone(), reply)))
    }

    /// Small content, whole.
    pub async fn content(
        &self,
        swarm: InfoHash,
        ticket: &SignedTicket,
        length: u64,
    ) -> Result<Bytes, SupernodeError> {
        let get = self
            .get(&paths::with(paths::SWARM_CONTENT, swarm))
            .header(SignedTicket::HEADER, ticket.to_string())
            .timeout(OPEN_TIMEOUT);
        let reply = self.call(get).await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.read_bounded(reply, length).await?;
        if bytes.len() != length {
            return Err(self.unexpected(format!("{} bytes of {length}", bytes.len())));
        }
        Ok(bytes)
    }

    /// Gives it the content that it wants. A failure here says nothing about its other calls.
    pub async fn give<E: std::error::Error + Send + Sync + 'static>(
        &self,
        swarm: InfoHash,
        ticket: &SignedTicket,
        content: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        limit: &RateLimiter,
    ) -> Result<(), SupernodeError> {
        let given = Arc::new(AtomicU64::new(0));
        let (counter, limit) = (Arc::clone(&given), limit.clone());
        let bytes = content.and_then(move |part| {
            let (counter, limit) = (Arc::clone(&counter), limit.clone());
            async move {
                limit.acquire(part.len()).await;
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
                Ok(part)
            }
        });
        let url = self.endpoint(&paths::with(paths::SWARM_CONTENT, swarm));
        let put = self
            .member(self.0.http.put(url))
            .header(SignedTicket::HEADER, ticket.to_string())
            .body(reqwest::Body::wrap_stream(bytes));
        let stuck = async {
            let mut before = None;
            loop {
                let now = given.load(Ordering::Relaxed);
                if before == Some(now) {
                    return;
                }
                before = Some(now);
                tokio::time::sleep(GIVE_IDLE_TIMEOUT).await;
            }
        };
        let reply = tokio::select! {
            reply = put.send() => reply.map_err(|e| self.unexpected(root_cause(&e)))?,
            () = stuck => return Err(self.unexpected("nothing to what it was given".to_owned())),
        };
        match reply.status() {
            StatusCode::OK => Ok(()),
            status => Err(self.refused(status, reply).await),
        }
    }

    /// Announces this node and hears of peers.
    pub async fn announce(
        &self,
        request: &AnnounceRequest,
        report: &NodeReport,
    ) -> Result<AnnounceReply, SupernodeError> {
        let mut url = self.endpoint("announce");
        url.set_query(Some(&request.to_query()));
        let mut get = self.member(self.0.http.get(url)).timeout(CALL_TIMEOUT);
        if let Some(report) = report.to_header() {
            get = get.header(NodeReport::HEADER, report);
        }
        let reply = self.call(get).await?;
        let bytes = self.read_bounded(reply, MAX_REPLY_BYTES).await?;
        AnnounceReply::from_bytes(&bytes).map_err(|e| self.unexpected(e.to_string()))
    }

    /// Lets strangers into the swarm of a torrent.
    pub async fn register_torrent(&self, torrent: Vec<u8>) -> Result<InfoHash, SupernodeError> {
        let post = self.0.http.post(self.endpoint(paths::TORRENTS));
        self.registered(post.body(torrent)).await
    }

    /// Lets no stranger into it any more.
    pub async fn unregister_torrent(&self, torrent: InfoHash) -> Result<(), SupernodeError> {
        let endpoint = self.endpoint(&paths::with(paths::TORRENT, torrent));
        self.registered(self.0.http.delete(endpoint)).await?;
        Ok(())
    }

    async fn registered(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<InfoHash, SupernodeError> {
        let request = self.member(request).timeout(OPEN_TIMEOUT);
        let reply = self.call(request).await?;
        let bytes = self.read_bounded(reply, MAX_REPLY_BYTES).await?;
        let registered: RegisteredTorrent =
            serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))?;
        Ok(registered.info_hash)
    }

    /// What it tells of itself.
    pub async fn statistics<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &str,
    ) -> Result<T, SupernodeError> {
        let mut url = self.endpoint(path);
        url.set_query(Some(query));
        let get = self.member(self.0.http.get(url)).timeout(CALL_TIMEOUT);
        let bytes = self
            .read_bounded(self.call(get).await?, MAX_REPLY_BYTES)
            .await?;
        serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))
    }

    /// Where its seeder listens.
    pub async fn peer_address(&self, port: u16) -> Option<SocketAddr> {
        let host = self.0.url.host_str()?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, port));
        }
        tokio::net::lookup_host((bare, port)).await.ok()?.next()
    }

    /// Whether it failed a moment ago, so that others are asked first.
    pub fn is_avoided(&self) -> bool {
        let failed = self.0.failed.lock();
        failed
            .as_ref()
            .is_some_and(|failure| failure.since.elapsed() < AVOID_TIME)
    }

    /// Avoids it for a while.
    fn failed(&self, reason: impl Into<String>) -> SupernodeError {
        let reason = reason.into();
        self.0.greeted.store(false, Ordering::Relaxed);
        let failure = Failure {
            since: Instant::now(),
            reason: reason.clone(),
        };
        *self.0.failed.lock() = Some(failure);
        SupernodeError::Unreachable {
            supernode: self.0.url.clone(),
            reason,
        }
    }

    fn last_failure(&self) -> Option<String> {
        let failed = self.0.failed.lock();
        failed.as_ref().map(|failure| {
            format!(
                "supernode {} cannot be reached: {}",
                self.0.url, failure.reason
            )
        })
    }

    fn endpoint(&self, path: &str) -> Url {
        Self::endpoint_of(&self.0.url, path)
    }

    /// The URL of `path` at a supernode.
    pub fn endpoint_of(supernode: &Url, path: &str) -> Url {
        let mut url = supernode.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{}", path.trim_start_matches('/')));
        url
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.member(self.0.http.get(self.endpoint(path)))
    }

    fn member(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.0.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn call(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SupernodeError> {
        let reply = request
            .send()
            .await
            .map_err(|e| self.failed(root_cause(&e)))?;
        *self.0.failed.lock() = None;
        match reply.status() {
            StatusCode::OK => Ok(reply),
            StatusCode::UNAUTHORIZED => Err(SupernodeError::NotAMember {
                supernode: self.0.url.clone(),
            }),
            status => Err(self.refused(status, reply).await),
        }
    }

    async fn refused(&self, status: StatusCode, reply: reqwest::Response) -> SupernodeError {
        let said = self.read_bounded(reply, 1024).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        self.unexpected(format!("{status} {said}"))
    }

    async fn read_bounded(
        &self,
        reply: reqwest::Response,
        cap: usize,
    ) -> Result<Bytes, SupernodeError> {
        self.read(reply, cap, OPEN_TIMEOUT).await
    }

    /// Reads a whole reply of at most `cap` bytes with no pause longer than `silence`.
    async fn read(
        &self,
        mut reply: reqwest::Response,
        cap: usize,
        silence: Duration,
    ) -> Result<Bytes, SupernodeError> {
        let mut bytes = BytesMut::new();
        loop {
            let part = tokio::time::timeout(silence, reply.chunk())
                .await
                .map_err(|_| self.silent())?;
            let Some(part) = part.map_err(|e| self.failed(root_cause(&e)))? else {
                break;
            };
            if bytes.len() + part.len() > cap {
                return Err(self.unexpected(format!("more than {cap} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    fn silent(&self) -> SupernodeError {
        self.failed("it fell silent")
    }

    fn unexpected(&self, what: String) -> SupernodeError {
        SupernodeError::Unexpected {
            supernode: self.0.url.clone(),
            what,
        }
    }
}

/// Splits the reply's lines into events.
fn events_of<T: DeserializeOwned + Send>(
    supernode: Supernode,
    reply: reqwest::Response,
) -> impl futures_util::Stream<Item = Result<T, SupernodeError>> + Send {
    let state = (supernode, reply.bytes_stream().boxed(), BytesMut::new());
    futures_util::stream::try_unfold(state, |(supernode, mut parts, mut lines)| async move {
        loop {
            if let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line = lines.split_to(end + 1);
                let event = serde_json::from_slice(&line)
                    .map_err(|e| supernode.unexpected(e.to_string()))?;
                return Ok(Some((event, (supernode, parts, lines))));
            }
            if lines.len() > MAX_EVENT_BYTES {
                return Err(supernode.unexpected("an event without end".to_owned()));
            }
            let part = tokio::time::timeout(EVENT_TIMEOUT, parts.next());
            match part.await.map_err(|_| supernode.silent())? {
                Some(Ok(part)) => lines.extend_from_slice(&part),
                Some(Err(error)) => return Err(supernode.failed(root_cause(&error))),
                None => return Ok(None),
            }
        }
    })
}
