//! The registry as the source of the rest of a layer, whose response has already begun.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use flotilla_cluster::trace;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HOST,
    LOCATION, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use url::Url;

use crate::authority::{host_header, is_same_origin};
use crate::body;
use crate::front::forward::BODY_TIMEOUT;
use crate::front::upstream::{Upstream, UpstreamError};
use crate::marks::Mark;
use crate::spans;

/// A registry with a store behind it redirects once, a proxy before it once more.
const MAX_REDIRECTS: usize = 5;
/// Silence after which a registry's answer, or its body, is given up and asked for again. Gateways hold
/// a layer until they have scanned it; engines wait as long.
const READ_TIMEOUT: Duration = BODY_TIMEOUT;
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("flotilla/", env!("CARGO_PKG_VERSION")));

/// A blob at its registry, in the name of one caller.
#[derive(Clone, Debug)]
pub(crate) struct RegistryBlob {
    upstream: Upstream,
    url: Uri,
    /// Marked sensitive, so that no debug output shows it.
    authorization: Option<HeaderValue>,
    /// Of the engine that is answered: there are firewalls that let only engines through.
    agent: HeaderValue,
    length: u64,
}

/// The registry does not deliver either.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FallbackError {
    #[error(transparent)]
    NoAnswer(#[from] UpstreamError),
    #[error("the registry answers {0}")]
    Status(StatusCode),
    #[error("the registry redirects too often, or to no URL")]
    Redirect,
    #[error("the registry sends other bytes than were asked for: {0}")]
    OtherBytes(&'static str),
    #[error("the registry broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    #[error("the registry broke off before the end")]
    Short,
    #[error("the registry is silent")]
    Silent,
}

impl FallbackError {
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::NoAnswer(_) | Self::Silent => Mark::RegistryUnreachable,
            Self::Status(_) => Mark::RegistryRefuses,
            Self::Redirect => Mark::RegistryRedirect,
            Self::OtherBytes(_) => Mark::RegistryWrongBytes,
            Self::BrokeOff(_) | Self::Short => Mark::RegistryBrokeOff,
        }
    }
}

impl FallbackError {
    /// Whether asking again in the same name gives the same answer.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Status(status) = self else {
            return false;
        };
        status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
    }
}

impl RegistryBlob {
    pub(crate) fn new(upstream: Upstream, url: Uri, asked: &HeaderMap, length: u64) -> Self {
        let authorization = asked.get(AUTHORIZATION).cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self {
            upstream,
            url,
            authorization,
            agent: asked.get(USER_AGENT).cloned().unwrap_or(AGENT),
            length,
        }
    }

    /// Asks for the bytes from `first` to `end`; they come from [`RegistryBytes::next`].
    pub(crate) async fn open(&self, first: u64, end: u64) -> Result<RegistryBytes, FallbackError> {
        let range = HeaderValue::from_str(&format!("bytes={first}-{}", end.saturating_sub(1)))
            .map_err(|_| FallbackError::OtherBytes("no range"))?;
        let mut url = self.url.clone();
        let mut authorization = self.authorization.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.get(&url, authorization.as_ref(), &range).await?;
            if !is_redirect(response.status()) {
                let skip = self.bytes_before(first, &response)?;
                return Ok(RegistryBytes {
                    body: response.into_body(),
                    skip,
                    left: end.saturating_sub(first),
                });
            }
            let next = location(&url, response.headers()).ok_or(FallbackError::Redirect)?;
            // Another host must not see the credentials: RFC 9110 section 15.4.
            if !is_same_origin(&url, &next) {
                authorization = None;
            }
            url = next;
        }
        Err(FallbackError::Redirect)
    }

    /// Asks for a range, of a registry that sends this range and nothing before it.
    pub(crate) async fn open_exactly(
        &self,
        range: &Range<u64>,
    ) -> Result<RegistryBytes, FallbackError> {
        let bytes = self.open(range.start, range.end).await?;
        if bytes.skip > 0 {
            return Err(FallbackError::OtherBytes("the beginning"));
        }
        Ok(bytes)
    }

    async fn get(
        &self,
        url: &Uri,
        authorization: Option<&HeaderValue>,
        range: &HeaderValue,
    ) -> Result<Response<Incoming>, FallbackError> {
        let mut request = Request::new(body::empty());
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, host_header(url));
        headers.insert(USER_AGENT, self.agent.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(RANGE, range.clone());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let span = spans::to_registry(request.method(), url);
        let sent = tokio::time::timeout(READ_TIMEOUT, self.upstream.send(request)).await;
        let status = match &sent {
            Ok(Ok(response)) => Ok(response.status().as_u16()),
            Ok(Err(_)) => Err("unreachable"),
            Err(_) => Err("timeout"),
        };
        trace::answered(&span, status);
        Ok(sent.map_err(|_| FallbackError::Silent)??)
    }

    /// How many bytes of the body come before `first`. A registry may ignore `Range` and send
    /// everything (Harbor's proxy-cache projects do).
    fn bytes_before(
        &self,
        first: u64,
        response: &Response<Incoming>,
    ) -> Result<u64, FallbackError> {
        let headers = response.headers();
        if headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(FallbackError::OtherBytes("encoded"));
        }
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let begins = text(headers, CONTENT_RANGE)
                    .and_then(|range| content_range_start(range, self.length));
                match begins {
                    Some(begins) if begins == first => Ok(0),
                    _ => Err(FallbackError::OtherBytes("another range")),
                }
            }
            StatusCode::OK => match text(headers, CONTENT_LENGTH) {
                Some(length) if length.parse() != Ok(self.length) => {
                    Err(FallbackError::OtherBytes("another length"))
                }
                _ => Ok(first),
            },
            status => Err(FallbackError::Status(status)),
        }
    }
}

/// The bytes of a range, as the registry sends them.
#[derive(Debug)]
pub(crate) struct RegistryBytes {
    body: Incoming,
    skip: u64,
    left: u64,
}

impl RegistryBytes {
    /// The next bytes of the range, never more than it has. Ending early is an error.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FallbackError> {
        loop {
            let frame = tokio::time::timeout(READ_TIMEOUT, self.body.frame()).await;
            let frame = frame
                .map_err(|_| FallbackError::Silent)?
                .ok_or(FallbackError::Short)??;
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            let skipped = bytes.split_to(at_most(self.skip, bytes.len()));
            self.skip -= skipped.len() as u64;
            bytes.truncate(at_most(self.left, bytes.len()));
            self.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

fn at_most(wanted: u64, available: usize) -> usize {
    usize::try_from(wanted).map_or(available, |wanted| wanted.min(available))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads. Absolute locations are used byte for byte, as they may be signed.
fn location(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let written = text(headers, LOCATION)?;
    let next = match written.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => uri,
        _ => Url::parse(&from.to_string())
            .ok()?
            .join(written)
            .ok()?
            .as_str()
            .parse()
            .ok()?,
    };
    matches!(next.scheme_str(), Some("http" | "https")).then_some(next)
}

/// The first byte of `bytes a-b/length`: RFC 9110 section 14.4.
fn content_range_start(range: &str, length: u64) -> Option<u64> {
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    (total == "*" || total.parse() == Ok(length)).then(|| first.parse().ok())?
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, to: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(to).unwrap())]);
        location(&from.parse().unwrap(), &headers).map(|uri| uri.to_string())
    }

    #[test]
    fn a_signed_location_is_followed_byte_for_byte() {
        let signed = "https://s3.test/b?sig=a%2fb'%27";
        assert_eq!(
            redirect("http://reg.test/v2/", signed).as_deref(),
            Some(signed)
        );
    }

    #[test]
    fn a_relative_location_is_resolved() {
        assert_eq!(
            redirect("http://reg.test/v2/a/b", "/x?y=1").as_deref(),
            Some("http://reg.test/x?y=1")
        );
        assert_eq!(
            redirect("http://reg.test/v2/a/b", "c").as_deref(),
            Some("http://reg.test/v2/a/c")
        );
        assert_eq!(
            redirect("http://reg.test/v2/a/b", "//cdn.test/c").as_deref(),
            Some("http://cdn.test/c")
        );
        assert_eq!(redirect("http://reg.test/", "ftp://x/y"), None);
    }

    #[test]
    fn a_content_range_must_be_of_this_blob() {
        assert_eq!(content_range_start("bytes 5-9/10", 10), Some(5));
        assert_eq!(content_range_start("bytes 5-9/*", 10), Some(5));
        assert_eq!(content_range_start("bytes 5-9/11", 10), None);
        assert_eq!(content_range_start("bytes */10", 10), None);
        assert_eq!(content_range_start("5-9/10", 10), None);
    }
}
