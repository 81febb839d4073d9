//! Asks web servers as a download tool does: with the user's logins, through the user's proxies.

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64;
use flotilla_cluster::{redacted, root_cause};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::netrc::{Login, Netrc};
use super::validator::Validator;
use crate::error::GetError;

/// A source that sends nothing for this long has broken the connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// More redirects than these are a loop; curl stops at 50, wget at 20, browsers at 20.
const MAX_REDIRECTS: usize = 10;

/// How sources are asked.
///
/// # Defaults
/// No headers, no logins, the platform's certificate authorities, five attempts more, ten seconds
/// to connect.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Headers for the host of the URL; they follow a redirect only within it.
    pub headers: Vec<(String, String)>,
    /// Login for the host of the URL.
    pub login: Option<Login>,
    /// Logins for any host, also one that is redirected to.
    pub netrc: Netrc,
    /// PEM file with certificate authorities besides the platform's.
    pub ca: Option<PathBuf>,
    /// Whether certificates are taken unverified.
    pub insecure: bool,
    /// Time for a connection.
    pub connect_timeout: Duration,
    /// Further attempts in a row without progress.
    pub retries: u32,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            login: None,
            netrc: Netrc::default(),
            ca: None,
            insecure: false,
            connect_timeout: Duration::from_secs(10),
            retries: 5,
        }
    }
}

/// What is wanted of the content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// Value of `Range`.
    pub(crate) range: Option<&'a str>,
    /// Value of `If-Range`.
    pub(crate) if_range: Option<&'a str>,
}

/// An answer whose body is content, or 416.
#[derive(Debug)]
pub(crate) struct SourceReply {
    pub(crate) status: StatusCode,
    /// First byte of the body within the content, and the byte after its last one, as the source says.
    pub(crate) part: Option<(u64, u64)>,
    /// Bytes of the whole content, when the source tells.
    pub(crate) total: Option<u64>,
    pub(crate) validator: Validator,
    /// The URL after all redirects.
    pub(crate) url: Url,
    pub(crate) body: reqwest::Response,
}

/// Why a source does not deliver, by what helps.
#[derive(Debug)]
pub(crate) enum SourceFailure {
    /// Asking again may.
    Passing(String, Option<Duration>),
    /// Nothing does.
    Final(GetError),
}

/// Reads from sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceClient {
    http: reqwest::Client,
    options: SourceOptions,
}

impl SourceClient {
    /// # Errors
    /// The file of certificate authorities cannot be read.
    pub fn new(options: SourceOptions) -> Result<Self, GetError> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(options.connect_timeout)
                .read_timeout(READ_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .tls_danger_accept_invalid_certs(options.insecure)
                .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")))
        };
        let http = match &options.ca {
            Some(path) => {
                let roots = std::fs::read(path).map_err(|error| GetError::io(path, error))?;
                let roots = reqwest::Certificate::from_pem_bundle(&roots)
                    .ok()
                    .filter(|roots| !roots.is_empty())
                    .ok_or_else(|| {
                        GetError::Setup(format!("{}: no PEM certificate in it", path.display()))
                    })?;
                builder().tls_certs_merge(roots).build()
            }
            // A host without any certificate authority may still use plain HTTP.
            None => builder()
                .build()
                .or_else(|_| builder().tls_certs_only([]).build()),
        };
        Ok(Self {
            http: http.map_err(|error| GetError::Setup(root_cause(&error)))?,
            options,
        })
    }

    pub(crate) fn retries(&self) -> u32 {
        self.options.retries
    }

    /// What a supernode asks the source with in this person's name: the URL without the login in
    /// it, and all headers.
    pub(crate) fn as_request(&self, url: &Url) -> (Url, Vec<(String, String)>) {
        let (plain, map) = self.first_headers(url);
        let headers = map
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        (plain, headers.collect())
    }

    /// Asks, following redirects. What was given for the host of `url` stays with it (RFC 9110
    /// section 15.4): any header may be a credential.
    pub(crate) async fn open(
        &self,
        url: &Url,
        wanted: Wanted<'_>,
    ) -> Result<SourceReply, SourceFailure> {
        let (mut url, mut headers) = self.first_headers(url);
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send(&url, &headers, wanted).await?;
            if !matches!(reply.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return answer(url, reply);
            }
            let location = reply.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            let next = next.ok_or_else(|| {
                final_failure(&url, "redirects to what is no http or https URL".to_owned())
            })?;
            if next.origin() != url.origin() {
                let downgraded = url.scheme() == "https" && next.scheme() == "http";
                headers = self.headers_elsewhere(&next, downgraded);
            }
            url = next;
        }
        Err(final_failure(
            &url,
            format!("more than {MAX_REDIRECTS} redirects, most likely a loop"),
        ))
    }

    async fn send(
        &self,
        url: &Url,
        headers: &HeaderMap,
        wanted: Wanted<'_>,
    ) -> Result<reqwest::Response, SourceFailure> {
        let mut request = self
            .http
            .get(url.clone())
            .headers(headers.clone())
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(range) = wanted.range {
            request = request.header(header::RANGE, range);
        }
        if let Some(validator) = wanted.if_range {
            request = request.header(header::IF_RANGE, validator);
        }
        let sent = request.send().await;
        sent.map_err(|error| SourceFailure::Passing(root_cause(&error), None))
    }

    fn first_headers(&self, url: &Url) -> (Url, HeaderMap) {
        let mut plain = url.clone();
        // Neither fails for a URL with a host.
        let _ = plain.set_username("");
        let _ = plain.set_password(None);
        plain.set_fragment(None);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.options.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        let in_url = login_in(url);
        let netrc = || self.options.netrc.login(plain.host_str()?).cloned();
        let login = self.options.login.clone().or(in_url).or_else(netrc);
        if let (Some(login), false) = (login, headers.contains_key(header::AUTHORIZATION)) {
            headers.extend(basic(&login));
        }
        (plain, headers)
    }

    /// Another host gets only the login that the netrc file has for it by name.
    fn headers_elsewhere(&self, url: &Url, downgraded: bool) -> HeaderMap {
        let login = url
            .host_str()
            .and_then(|host| self.options.netrc.login(host));
        let login = login.filter(|_| !downgraded).and_then(basic);
        login.into_iter().collect()
    }
}

fn login_in(url: &Url) -> Option<Login> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    (!url.username().is_empty()).then(|| Login {
        user: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
    })
}

/// RFC 7617.
fn basic(login: &Login) -> Option<(HeaderName, HeaderValue)> {
    let pair = BASE64.encode(format!("{}:{}", login.user, login.password).as_bytes());
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some((header::AUTHORIZATION, value))
}

fn answer(url: Url, body: reqwest::Response) -> Result<SourceReply, SourceFailure> {
    let status = body.status();
    let headers = body.headers();
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {}
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Err(passing(&body)),
        status if status.is_server_error() => return Err(passing(&body)),
        status => {
            return Err(SourceFailure::Final(GetError::Refused {
                url: redacted(&url),
                status: status.as_u16(),
                reason: status.canonical_reason().unwrap_or_default(),
            }));
        }
    }
    let coding = headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        return Err(final_failure(
            &url,
            "sends an encoded body although identity was asked for".to_owned(),
        ));
    }
    let (part, total) = match content_range(headers) {
        Some((part, total)) => (part, total),
        None if status == StatusCode::OK => (None, body.content_length()),
        None => (None, None),
    };
    if status == StatusCode::PARTIAL_CONTENT && part.is_none() {
        return Err(final_failure(
            &url,
            "answers 206 without a readable Content-Range".to_owned(),
        ));
    }
    Ok(SourceReply {
        status,
        part,
        total,
        validator: Validator::of(headers),
        url,
        body,
    })
}

fn passing(reply: &reqwest::Response) -> SourceFailure {
    let after = reply.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
    SourceFailure::Passing(
        format!("the source answers {}", reply.status()),
        after.map(Duration::from_secs),
    )
}

fn final_failure(url: &Url, what: String) -> SourceFailure {
    SourceFailure::Final(GetError::Source {
        url: redacted(url),
        what,
    })
}

/// A part of the content, its end exclusive, and the length of the whole, as far as the source says.
type StatedRange = (Option<(u64, u64)>, Option<u64>);

/// `Content-Range: bytes first-last/total` or `bytes */total` (RFC 9110 section 14.4).
fn content_range(headers: &HeaderMap) -> Option<StatedRange> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    let sound = first < end && total.is_none_or(|total| end <= total);
    sound.then_some((Some((first, end)), total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            content_range(&HeaderMap::from_iter([(header::CONTENT_RANGE, value)]))
        };
        assert_eq!(read("bytes 0-4/10"), Some((Some((0, 5)), Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((Some((5, 10)), None)));
        assert_eq!(read("bytes */10"), Some((None, Some(10))));
        for text in [
            "bytes 5-4/10",
            "bytes 5-10/10",
            "items 0-1/2",
            "bytes -1-2/3",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_login_in_the_url_is_decoded_and_leaves_the_url() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = SourceClient::new(SourceOptions::default()).unwrap();
        let url = Url::parse("http://me:p%40ss@h/f?q#x").unwrap();
        let (plain, headers) = client.as_request(&url);
        assert_eq!(plain.as_str(), "http://h/f?q");
        let value = format!("Basic {}", BASE64.encode(b"me:p@ss"));
        assert_eq!(headers, [("authorization".to_owned(), value)]);
    }
}
