//! Mirrors that are named in the path: podman, skopeo, buildah and CRI-O ask for
//! `/v2/HOST/REPOSITORY/…` where `registries.conf` says `location = "127.0.0.1:65001/HOST"`
//! (`HOST__PORT` for another port than the scheme's: references allow no colon there; IPv6
//! addresses as [`host_of_component`] says).
//!
//! Their first request, `GET /v2/`, names no registry, and its challenge decides how they log
//! in for good. So the proxy challenges them itself ([`ping`]) and passes the request for
//! a token on to the registry that its scope names ([`MirrorTokens`]). A registry that takes
//! Basic credentials has no tokens: such a client gets its own credentials, wrapped, and they
//! are unwrapped on each request ([`unwrap_credentials`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use flotilla_registry::challenge::{Challenge, token_url};
use flotilla_registry::names::api_path;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT, WWW_AUTHENTICATE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use url::form_urlencoded;

use crate::authority::{host_header, is_host_and_port};
use crate::body::{self, ProxyBody, streamed};
use crate::front::forward::BODY_TIMEOUT;
use crate::front::header_rules;
use crate::front::idle::Activity;
use crate::front::upstream::{Upstream, UpstreamError};
use crate::layers::fallback::AGENT;
use crate::marks::{Mark, set_mark};
use crate::mirror::hosts::{MirrorHosts, Registry};
use crate::mirror::naming::{TOKEN_PATH, host_of_component, is_host, not_mirrored};
use crate::oci_error::Refusal;
use crate::stats::ProxyStats;

/// Begins the tokens that are not a registry's.
const WRAPPED: &str = "flotilla.";
/// What follows in the token of a login that names no registry: no registry's name, so that
/// [`unwrap_credentials`] refuses it everywhere.
const UNBOUND_LOGIN: &str = "login";
/// A registry that is read without logging in.
const ANONYMOUS: &str = "anonymous";
/// A token service asks a directory at most; nothing is copied for a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Seconds; it is the client's own credential, so it does not matter much.
const WRAPPED_LIFETIME: u32 = 3600;

/// The answer to `GET /v2/`: get a token, from here. A client that has one may pass: the registries
/// decide about all further requests.
pub(crate) fn ping(request: &HeaderMap, stats: &ProxyStats) -> Response<ProxyBody> {
    if request.contains_key(AUTHORIZATION) {
        return json_response("{}");
    }
    let here = request.get(HOST).and_then(|host| host.to_str().ok());
    let challenge = format!(
        "Bearer realm=\"http://{}{TOKEN_PATH}\",service=\"flotilla\"",
        here.unwrap_or("127.0.0.1:65001").replace(['"', '\\'], "")
    );
    let message = "log in to the mirrored registry";
    let mut response = unauthorized(Mark::LoginRequested, message).answer(stats);
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Gets tokens for clients from the registries that they mean.
pub(crate) struct MirrorTokens<'a> {
    pub(crate) mirrors: &'a MirrorHosts,
    pub(crate) upstream: &'a Upstream,
}

impl MirrorTokens<'_> {
    /// The answer to a request for a token: the token service's own, where there is one.
    ///
    /// # Errors
    /// The token is refused here.
    pub(crate) async fn answer(
        &self,
        request: &Request<hyper::body::Incoming>,
    ) -> Result<Response<ProxyBody>, Refusal> {
        if request.method() != Method::GET {
            // As Harbor does; clients then use GET.
            return Err(Refusal::new(
                Mark::TokenMethodRefused,
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "tokens are for GET",
            ));
        }
        let authorization = request.headers().get(AUTHORIZATION);
        self.token(request.uri().query(), authorization).await
    }

    async fn token(
        &self,
        query: Option<&str>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<ProxyBody>, Refusal> {
        let Some((registry, scopes)) = self.meant(query.unwrap_or_default())? else {
            set_mark!(self.upstream.stats(), Mark::LoginUnbound);
            return Ok(token_response(&format!("{WRAPPED}{UNBOUND_LOGIN}")));
        };
        match self.challenge_of(&registry).await? {
            None => Ok(wrapped(&registry, ANONYMOUS)),
            Some(Challenge::Basic) => {
                let basic = authorization
                    .and_then(|value| value.to_str().ok())
                    .and_then(basic_credentials)
                    .ok_or_else(|| not_logged_in(&registry))?;
                let checked = self.get(ping_of(&registry)?, authorization).await?;
                if checked.status() == StatusCode::UNAUTHORIZED {
                    return Err(not_logged_in(&registry));
                }
                Ok(wrapped(&registry, basic))
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let scopes = scopes.iter().map(String::as_str);
                let realm = token_url(realm, service.as_deref(), scopes);
                let realm = realm.as_str().parse();
                let realm = realm.map_err(|_| bad_challenge(&registry))?;
                let response = self.get(realm, authorization).await?;
                let headers = header_rules::end_to_end(response.headers());
                let stats = Arc::clone(self.upstream.stats());
                let mut response = response
                    .map(|body| Activity::new().limit_body(BODY_TIMEOUT, streamed(body), stats));
                *response.headers_mut() = headers;
                Ok(response)
            }
        }
    }

    /// The registry that the scopes name, and the scopes as it knows them. None if there are
    /// several registries and no scope, as `podman login` asks: its credentials are for one of
    /// them, and must not reach another. The first request with a scope has them checked.
    fn meant(&self, query: &str) -> Result<Option<(Registry, Vec<String>)>, Refusal> {
        let mut registry = None;
        let mut scopes = Vec::new();
        let asked = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope");
        for scope in asked.flat_map(|(_, value)| split_scopes(&value)) {
            let (found, scope) = self.translate(&scope)?;
            if registry.as_ref().is_some_and(|registry| *registry != found) {
                return Err(bad_scope("one token is for one registry"));
            }
            registry = Some(found);
            scopes.push(scope);
        }
        let registry = registry.or_else(|| self.mirrors.only());
        Ok(registry.map(|registry| (registry, scopes)))
    }

    /// `repository:HOST/NAME:ACTIONS` without the host, and whose it is. A repository without
    /// a host is the default registry's.
    fn translate(&self, scope: &str) -> Result<(Registry, String), Refusal> {
        let Some(repository) = scope.strip_prefix("repository:") else {
            let only = self.mirrors.only();
            let only = only.ok_or_else(|| bad_scope("the scope names no registry"))?;
            return Ok((only, scope.to_owned()));
        };
        if let Some((component, rest)) = repository.split_once('/') {
            let host = host_of_component(component);
            let authority = host.parse::<Authority>().ok().filter(is_host_and_port);
            if let Some(registry) = authority.and_then(|host| self.mirrors.named(&host)) {
                return Ok((registry, format!("repository:{rest}")));
            }
            if is_host(component) {
                return Err(not_mirrored(&host));
            }
        }
        let default = self.mirrors.default.clone();
        let default = default.ok_or_else(|| bad_scope("the scope names no mirrored registry"))?;
        Ok((default, scope.to_owned()))
    }

    /// What the registry wants; `None`: it takes requests without a login.
    async fn challenge_of(&self, registry: &Registry) -> Result<Option<Challenge>, Refusal> {
        let response = self.get(ping_of(registry)?, None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let challenge = Challenge::of_answer(response.headers());
        challenge.map(Some).ok_or_else(|| bad_challenge(registry))
    }

    async fn get(
        &self,
        uri: Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<hyper::body::Incoming>, Refusal> {
        let mut request = Request::new(body::empty());
        let headers = request.headers_mut();
        headers.insert(HOST, host_header(&uri));
        headers.insert(USER_AGENT, AGENT);
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let host = uri.authority().map(ToString::to_string);
        *request.uri_mut() = uri;
        let sent = tokio::time::timeout(TOKEN_TIMEOUT, self.upstream.send(request)).await;
        let host = host.unwrap_or_default();
        Ok(sent.unwrap_or(Err(UpstreamError::TimedOut { host }))?)
    }
}

fn ping_of(registry: &Registry) -> Result<Uri, Refusal> {
    let uri = Uri::builder()
        .scheme(registry.scheme.clone())
        .authority(registry.authority.clone())
        .path_and_query(api_path::BASE);
    uri.build().map_err(|_| bad_challenge(registry))
}

/// Scopes may also stand in one parameter, with spaces between them (RFC 6749 section 3.3).
fn split_scopes(value: &str) -> Vec<String> {
    value.split_ascii_whitespace().map(str::to_owned).collect()
}

fn basic_credentials(authorization: &str) -> Option<&str> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let credentials = credentials.trim();
    let is_basic =
        scheme.eq_ignore_ascii_case("basic") && BASE64.decode(credentials.as_bytes()).is_ok();
    is_basic.then_some(credentials)
}

/// A token that says how to log in to `registry`, as JSON of a token service.
fn wrapped(registry: &Registry, credentials: &str) -> Response<ProxyBody> {
    let host = BASE64URL_NOPAD.encode(registry.authority.as_str().as_bytes());
    token_response(&format!("{WRAPPED}{host}.{credentials}"))
}

fn token_response(token: &str) -> Response<ProxyBody> {
    let json = serde_json::json!({
        "token": token,
        "access_token": token,
        "expires_in": WRAPPED_LIFETIME,
    });
    json_response(json.to_string())
}

fn json_response(json: impl Into<Bytes>) -> Response<ProxyBody> {
    let json = json.into();
    let length = HeaderValue::from(json.len());
    let mut response = Response::new(body::full(json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    response
}

/// What a wrapped token holds. A scheme's case does not matter: RFC 9110 section 11.1.
fn wrapped_in(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim_start().strip_prefix(WRAPPED))?
}

/// Puts the credentials in that a wrapped token holds, if it is for the registry of `target`.
///
/// # Errors
/// It is for another one.
pub(crate) fn unwrap_credentials(headers: &mut HeaderMap, target: &Uri) -> Result<(), Refusal> {
    let Some(token) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(wrapped_in)
    else {
        return Ok(());
    };
    let unwrapped = || {
        let (host, credentials) = token.split_once('.')?;
        let host = BASE64URL_NOPAD.decode(host.as_bytes()).ok()?;
        let is_meant = target.authority()?.as_str().as_bytes() == host;
        is_meant.then(|| credentials.to_owned())
    };
    let message = "the token is for another registry";
    let credentials = unwrapped().ok_or_else(|| unauthorized(Mark::TokenMisused, message))?;
    headers.remove(AUTHORIZATION);
    if credentials != ANONYMOUS
        && let Ok(mut value) = HeaderValue::try_from(format!("Basic {credentials}"))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(())
}

fn bad_scope(message: &str) -> Refusal {
    Refusal::new(
        Mark::TokenScopeRefused,
        StatusCode::BAD_REQUEST,
        "UNSUPPORTED",
        message,
    )
}

fn bad_challenge(registry: &Registry) -> Refusal {
    let message = format!(
        "{} sends a challenge that is not understood",
        registry.authority
    );
    Refusal::new(
        Mark::ChallengeMalformed,
        StatusCode::BAD_GATEWAY,
        "UNAVAILABLE",
        message,
    )
}

fn not_logged_in(registry: &Registry) -> Refusal {
    let message = format!("{} requires a login", registry.authority);
    unauthorized(Mark::LoginMissing, message)
}

fn unauthorized(mark: Mark, message: impl Into<String>) -> Refusal {
    Refusal::new(mark, StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::from_url(&"http://reg.test:5000".parse().unwrap()).unwrap()
    }

    async fn token(registry: &Registry, credentials: &str) -> String {
        use http_body_util::BodyExt as _;
        let body = wrapped(registry, credentials).into_body();
        let body = body.collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        json["token"].as_str().unwrap().to_owned()
    }

    fn unwrapped(token: &str, target: &str) -> Result<Option<String>, Refusal> {
        unwrapped_from(&format!("Bearer {token}"), target)
    }

    fn unwrapped_from(authorization: &str, target: &str) -> Result<Option<String>, Refusal> {
        let value = HeaderValue::try_from(authorization).unwrap();
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        unwrap_credentials(&mut headers, &target.parse().unwrap())?;
        let left = headers.get(AUTHORIZATION);
        Ok(left.map(|value| value.to_str().unwrap().to_owned()))
    }

    #[tokio::test]
    async fn wrapped_credentials_come_out_for_their_registry_only() {
        let token = token(&registry(), "dTpw").await;
        let there = unwrapped(&token, "http://reg.test:5000/v2/a/manifests/1");
        assert_eq!(there, Ok(Some("Basic dTpw".to_owned())));
        let elsewhere = unwrapped(&token, "http://evil.test/v2/a/manifests/1");
        assert_eq!(elsewhere.unwrap_err().status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn wrapped_credentials_reach_no_other_server_however_the_scheme_is_written() {
        let token = token(&registry(), "dTpw").await;
        for scheme in ["bearer", "BEARER", "Bearer "] {
            let authorization = format!("{scheme} {token}");
            let there = unwrapped_from(&authorization, "http://reg.test:5000/v2/");
            assert_eq!(there, Ok(Some("Basic dTpw".to_owned())));
            let elsewhere = unwrapped_from(&authorization, "http://evil.test/v2/");
            assert!(elsewhere.is_err(), "{scheme}");
        }
    }

    #[tokio::test]
    async fn an_anonymous_token_becomes_none() {
        let token = token(&registry(), ANONYMOUS).await;
        assert_eq!(unwrapped(&token, "http://reg.test:5000/v2/"), Ok(None));
    }

    #[test]
    fn the_token_of_a_login_opens_nothing() {
        let refused = unwrapped(
            &format!("{WRAPPED}{UNBOUND_LOGIN}"),
            "http://reg.test:5000/v2/a/manifests/1",
        );
        assert_eq!(refused.unwrap_err().status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn other_tokens_pass() {
        let jwt = unwrapped("eyJ.e30.sig", "http://reg.test:5000/v2/");
        assert_eq!(jwt, Ok(Some("Bearer eyJ.e30.sig".to_owned())));
    }
}
