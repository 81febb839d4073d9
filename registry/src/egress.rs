//! The HTTP proxy between a site and its registries.
//!
//! Only what goes to registries and their stores takes it. Traffic of the cluster never does: its
//! clients do not know of it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// The URL of an HTTP proxy, with a login if it wants one; or the word `none`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EgressProxy(Option<Url>);

/// Text that names no HTTP proxy. Without the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of an HTTP proxy, http://[USER:PASSWORD@]HOST:PORT, or none")]
pub struct EgressProxyError;

/// Which proxy leads to which registry. Cheap to clone.
///
/// # Defaults
/// Straight to every registry.
#[derive(Clone, Default)]
pub struct Egress(Option<Arc<Ways>>);

struct Ways {
    matcher: Matcher,
    http: Option<Url>,
    https: Option<Url>,
    except: String,
}

/// What a request has to take.
#[derive(Clone)]
pub struct Way {
    /// The proxy's URL, without a login.
    pub proxy: Uri,
    /// The value of `Proxy-Authorization`, where it wants a login.
    pub authorization: Option<HeaderValue>,
}

impl EgressProxy {
    /// Its URL; none for `none`.
    pub fn url(&self) -> Option<&Url> {
        self.0.as_ref()
    }
}

impl FromStr for EgressProxy {
    type Err = EgressProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text == "none" {
            return Ok(Self(None));
        }
        // curl and Go take a bare HOST:PORT as well.
        let written = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url = Url::parse(&written).map_err(|_| EgressProxyError)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if url.scheme() == "http" && url.has_host() && is_bare {
            Ok(Self(Some(url)))
        } else {
            Err(EgressProxyError)
        }
    }
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("none", Url::as_str))
    }
}

// The URL holds a password.
impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.as_ref().map(flotilla_cluster::redacted);
        f.debug_tuple("EgressProxy").field(&shown).finish()
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = self.0.as_deref();
        let shown = |url: Option<&Url>| url.map(flotilla_cluster::redacted);
        f.debug_struct("Egress")
            .field("http", &shown(ways.and_then(|ways| ways.http.as_ref())))
            .field("https", &shown(ways.and_then(|ways| ways.https.as_ref())))
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// Through one proxy to servers without TLS and through one to those with it, except to those that
    /// `except` names, in the form of `NO_PROXY`: names, domains, addresses and networks, separated
    /// by commas. This host itself is always reached straight.
    pub fn through(http: &EgressProxy, https: &EgressProxy, except: &str) -> Self {
        let (http, https) = (http.0.clone(), https.0.clone());
        if http.is_none() && https.is_none() {
            return Self::default();
        }
        let text = |url: &Option<Url>| url.as_ref().map(ToString::to_string).unwrap_or_default();
        let matcher = Matcher::builder()
            .http(text(&http))
            .https(text(&https))
            .no(except)
            .build();
        Self(Some(Arc::new(Ways {
            matcher,
            http,
            https,
            except: except.to_owned(),
        })))
    }

    /// What a request for `target` has to take; none: the straight way.
    pub fn way_to(&self, target: &Uri) -> Option<Way> {
        let ways = self.0.as_deref()?;
        if is_this_host(target.host().unwrap_or_default()) {
            return None;
        }
        let found = ways.matcher.intercept(target)?;
        let authorization = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Some(Way {
            proxy: found.uri().clone(),
            authorization,
        })
    }

    /// The same for reqwest.
    pub(crate) fn proxies(&self) -> reqwest::Result<Vec<reqwest::Proxy>> {
        let Some(ways) = self.0.as_deref() else {
            return Ok(Vec::new());
        };
        let except = format!("{},localhost,127.0.0.0/8,::1", ways.except);
        let of = |url: &Url, make: fn(Url) -> reqwest::Result<reqwest::Proxy>| {
            let except = reqwest::NoProxy::from_string(&except);
            make(url.clone()).map(|proxy| proxy.no_proxy(except))
        };
        let http = ways.http.iter().map(|url| of(url, reqwest::Proxy::http));
        let https = ways.https.iter().map(|url| of(url, reqwest::Proxy::https));
        http.chain(https).collect()
    }
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    is_loopback || bare.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(egress: &Egress, target: &str) -> Option<String> {
        let way = egress.way_to(&target.parse().unwrap())?;
        Some(way.proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_exceptions_have_none() {
        let http = "http://u:p@proxy.test:3128".parse().unwrap();
        let https = "proxy.test:3129".parse().unwrap();
        let egress = Egress::through(&http, &https, ".corp.test, 10.0.0.0/8,reg.test");
        assert_eq!(
            way(&egress, "http://a.test/v2/").as_deref(),
            Some("http://proxy.test:3128/")
        );
        assert_eq!(
            way(&egress, "https://a.test/v2/").as_deref(),
            Some("http://proxy.test:3129/")
        );
        for target in [
            "http://x.corp.test/",
            "https://10.1.2.3:5000/",
            "https://reg.test:5000/",
            "http://127.0.0.1:5000/",
            "http://[::1]:5000/",
            "http://localhost/",
        ] {
            assert_eq!(way(&egress, target), None, "{target}");
        }
        let way = egress.way_to(&"http://a.test/".parse().unwrap()).unwrap();
        assert_eq!(way.authorization.unwrap(), "Basic dTpw");
        assert_eq!(egress.proxies().unwrap().len(), 2);
    }

    #[test]
    fn without_a_proxy_every_way_is_straight() {
        let none: EgressProxy = "none".parse().unwrap();
        let egress = Egress::through(&none, &none, "");
        assert_eq!(way(&egress, "http://a.test/"), None);
        assert_eq!(way(&Egress::default(), "https://a.test/"), None);
    }

    #[test]
    fn only_http_proxies_are_understood_and_no_password_is_shown() {
        for text in [
            "https://p.test",
            "socks5://p.test",
            "http://",
            "http://p.test/x",
        ] {
            assert_eq!(text.parse::<EgressProxy>(), Err(EgressProxyError), "{text}");
        }
        let proxy: EgressProxy = "http://u:secret@p.test:3128".parse().unwrap();
        let egress = Egress::through(&proxy, &proxy, "");
        assert!(!format!("{proxy:?} {egress:?}").contains("secret"));
    }
}
