//! Who may see the page, the API and the metrics.
//!
//! On loopback every user of the machine. From elsewhere a caller that sends the join token or the
//! statistics token: as `Authorization: Bearer`, or once on the login page, which gives a cookie.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Version, header};
use data_encoding::HEXLOWER;
use flotilla_cluster::unix_now;
use ring::hmac;
use ring::rand::SystemRandom;
use sha2::{Digest as _, Sha256};

/// A working day.
pub(super) const LOGIN_LASTS: Duration = Duration::from_secs(12 * 3600);
pub(super) const COOKIE: &str = "flotilla_stats";
/// Set by proxies: a caller that comes through one is not on this machine. nginx sets none of them, but
/// speaks HTTP/1.0, which browsers do not, unless it is configured otherwise.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// The rule.
pub(crate) struct Access {
    /// SHA-256 of the tokens: comparing hashes takes the same time wherever they differ. None: every
    /// host may join, and look.
    tokens: Vec<[u8; 32]>,
    /// Signs cookies; of this run, so that a restart ends all logins.
    key: hmac::Key,
}

impl Access {
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn new(
        join_token: Option<&str>,
        stats_token: Option<&str>,
    ) -> Result<Self, ring::error::Unspecified> {
        let tokens = join_token.into_iter().chain(stats_token);
        Ok(Self {
            tokens: tokens.map(|token| Sha256::digest(token).into()).collect(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
        })
    }

    pub(super) fn may_see(
        &self,
        remote: SocketAddr,
        version: Version,
        headers: &HeaderMap,
    ) -> bool {
        if self.tokens.is_empty() || is_on_this_machine(remote, version, headers) {
            return true;
        }
        let bearer = text(headers, header::AUTHORIZATION.as_str());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
        bearer.is_some_and(|token| self.is_token(token)) || self.has_cookie(headers, unix_now())
    }

    pub(super) fn is_token(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.tokens.contains(&hash)
    }

    /// `EXPIRY.SIGNATURE`.
    pub(super) fn cookie(&self, now: u64) -> String {
        let expires = now.saturating_add(LOGIN_LASTS.as_secs()).to_string();
        let signature = hmac::sign(&self.key, expires.as_bytes());
        format!("{expires}.{}", HEXLOWER.encode(signature.as_ref()))
    }

    fn has_cookie(&self, headers: &HeaderMap, now: u64) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|value| value.split(';'));
        cookies.any(|cookie| {
            let value = cookie.trim().strip_prefix(COOKIE);
            let value = value.and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| self.is_valid(value, now))
        })
    }

    fn is_valid(&self, cookie: &str, now: u64) -> bool {
        let Some((expires, signature)) = cookie.split_once('.') else {
            return false;
        };
        let Ok(signature) = HEXLOWER.decode(signature.as_bytes()) else {
            return false;
        };
        hmac::verify(&self.key, expires.as_bytes(), &signature).is_ok()
            && expires.parse::<u64>().is_ok_and(|expires| now < expires)
    }
}

/// From loopback, not through a proxy, and by an address: a name may be one that another web
/// page makes the browser resolve to loopback.
fn is_on_this_machine(remote: SocketAddr, version: Version, headers: &HeaderMap) -> bool {
    let by_address = text(headers, header::HOST.as_str()).is_some_and(|host| {
        let bare = match host.rsplit_once(':') {
            Some((bare, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => bare,
            _ => host,
        };
        let bare = bare.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
    });
    remote.ip().to_canonical().is_loopback()
        && version >= Version::HTTP_11
        && by_address
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn remote(address: &str) -> SocketAddr {
        format!("{address}:1").parse().unwrap()
    }

    #[test]
    fn who_is_on_the_machine_needs_no_token_and_who_is_sent_there_does() {
        let access = Access::new(Some("join token"), None).unwrap();
        let host = ("host", "127.0.0.1:8001");
        assert!(access.may_see(remote("127.0.0.1"), Version::HTTP_11, &headers(&[host])));
        assert!(access.may_see(
            remote("[::1]"),
            Version::HTTP_11,
            &headers(&[("host", "[::1]:8001")])
        ));
        assert!(access.may_see(
            remote("127.0.0.1"),
            Version::HTTP_11,
            &headers(&[("host", "localhost")])
        ));
        for refused in [
            headers(&[("host", "evil.test:8001")]),
            headers(&[]),
            headers(&[host, ("x-forwarded-for", "10.0.0.9")]),
            headers(&[host, ("forwarded", "for=10.0.0.9")]),
        ] {
            assert!(!access.may_see(remote("127.0.0.1"), Version::HTTP_11, &refused));
        }
        assert!(!access.may_see(remote("10.0.0.9"), Version::HTTP_11, &headers(&[host])));
        let of_nginx = access.may_see(remote("127.0.0.1"), Version::HTTP_10, &headers(&[host]));
        assert!(!of_nginx);
    }

    #[test]
    fn both_tokens_open_and_no_other() {
        let access = Access::new(Some("join"), Some("look")).unwrap();
        let shown = |token: &str| {
            let bearer = format!("Bearer {token}");
            access.may_see(
                remote("10.0.0.9"),
                Version::HTTP_11,
                &headers(&[("authorization", &bearer)]),
            )
        };
        assert!(shown("join") && shown("look"));
        assert!(!shown("other") && !shown(""));
        let open = Access::new(None, None).unwrap();
        assert!(open.may_see(remote("10.0.0.9"), Version::HTTP_11, &HeaderMap::new()));
    }

    #[test]
    fn a_cookie_lasts_as_long_as_it_says_and_is_of_this_run() {
        let access = Access::new(Some("join"), None).unwrap();
        let value = access.cookie(1000);
        let cookie = |value: &str| headers(&[("cookie", &format!("a=b; {COOKIE}={value}"))]);
        let end = 1000 + LOGIN_LASTS.as_secs();
        assert!(access.has_cookie(&cookie(&value), end - 1));
        assert!(!access.has_cookie(&cookie(&value), end));
        let (_, signature) = value.split_once('.').unwrap();
        assert!(!access.has_cookie(&cookie(&format!("9999999999.{signature}")), 1000));
        let other = Access::new(Some("join"), None).unwrap();
        assert!(!other.has_cookie(&cookie(&value), 1000));
    }
}
