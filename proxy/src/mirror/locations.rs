//! Where a mirrored registry's answers lead: back to the mirror, and to that registry again.
//!
//! A client resolves a relative `Location` at the mirror, where neither `ns` nor the registry's name
//! in the path comes along. An absolute one would lead it past the mirror, to a registry whose name or
//! certificate it may not know.

use flotilla_registry::names::api_path;
use http::header::{LINK, LOCATION};
use http::{HeaderMap, HeaderValue, Uri};
use url::{Url, form_urlencoded};

use crate::authority::is_same_origin;
use crate::mirror::naming::{Named, host_of_component};

/// Makes what the answer to a request for `target` names at its own registry lead there again.
pub(crate) fn lead_back(headers: &mut HeaderMap, named: &Named, target: &Uri) {
    let localised = |reference: &str| {
        let path = own_path(reference, target)?;
        Some(at_mirror(path, named))
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let location = text(&LOCATION).and_then(localised);
    let link = text(&LINK).and_then(|link| {
        // RFC 8288 section 3: `<reference>; rel="next"`
        let (reference, parameters) = link.strip_prefix('<')?.split_once('>')?;
        Some(format!("<{}>{parameters}", localised(reference)?))
    });
    for (name, text) in [(LOCATION, location), (LINK, link)] {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
}

/// The path and query that `reference` names at the registry of `target`, byte for byte where it has
/// them. None: it leads elsewhere.
fn own_path(reference: &str, target: &Uri) -> Option<String> {
    if let Some((scheme, rest)) = reference.split_once("://")
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let origin: Uri = format!("{scheme}://{authority}/").parse().ok()?;
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        return is_same_origin(&origin, target).then_some(path);
    }
    if reference.starts_with('/') && !reference.starts_with("//") {
        return Some(reference.to_owned());
    }
    let resolved = Url::parse(&target.to_string()).ok()?.join(reference).ok()?;
    let there: Uri = resolved.as_str().parse().ok()?;
    is_same_origin(&there, target).then(|| there.path_and_query().map(ToString::to_string))?
}

/// The same at the mirror.
fn at_mirror(path: String, named: &Named) -> String {
    match named {
        Named::Silently => path,
        Named::Beside(authority) => with_namespace(&path, authority.as_str()),
        // Only the API's paths have room for a host.
        Named::InPath(host) => api_path::put_first_component(host, &path)
            .unwrap_or_else(|| with_namespace(&path, &host_of_component(host))),
    }
}

fn with_namespace(path: &str, namespace: &str) -> String {
    let (path, fragment) = match path.split_once('#') {
        Some((path, fragment)) => (path, format!("#{fragment}")),
        None => (path, String::new()),
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    let namespace: String = form_urlencoded::byte_serialize(namespace.as_bytes()).collect();
    format!("{path}{separator}ns={namespace}{fragment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reference as `Location` and as `Link`, once it has passed.
    fn passed(reference: &str, named: &Named) -> String {
        let target = "https://reg.test/v2/a/tags/list".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(reference).unwrap());
        let link = format!("<{reference}>; rel=\"next\"");
        headers.insert(LINK, HeaderValue::from_str(&link).unwrap());
        lead_back(&mut headers, named, &target);
        let location = headers[LOCATION].to_str().unwrap().to_owned();
        assert_eq!(headers[LINK], format!("<{location}>; rel=\"next\""));
        location
    }

    #[test]
    fn the_host_goes_back_into_the_registry_s_paths() {
        let named = Named::InPath("reg.test".to_owned());
        for (given, expected) in [
            ("/v2/a/x?_state=%3D", "/v2/reg.test/a/x?_state=%3D"),
            ("https://reg.test/v2/a/x", "/v2/reg.test/a/x"),
            ("https://reg.test:443/v2/a/x", "/v2/reg.test/a/x"),
            ("https://s3.test/v2/a?sig=1", "https://s3.test/v2/a?sig=1"),
            ("//s3.test/v2/a", "//s3.test/v2/a"),
            (
                "/downloads/x?sig=a%2fb",
                "/downloads/x?sig=a%2fb&ns=reg.test",
            ),
            ("/downloads/x", "/downloads/x?ns=reg.test"),
        ] {
            assert_eq!(passed(given, &named), expected);
        }
    }

    #[test]
    fn what_was_named_beside_the_path_goes_beside_the_location() {
        let named = Named::Beside("reg.test:443".parse().unwrap());
        for (given, expected) in [
            ("/v2/a/x?_state=%3D", "/v2/a/x?_state=%3D&ns=reg.test%3A443"),
            ("https://REG.test/v2/a/x", "/v2/a/x?ns=reg.test%3A443"),
            ("http://reg.test/v2/a/x", "http://reg.test/v2/a/x"),
            ("https://s3.test/a?sig=1", "https://s3.test/a?sig=1"),
            ("list?n=2", "/v2/a/tags/list?n=2&ns=reg.test%3A443"),
            ("?n=2", "/v2/a/tags/list?n=2&ns=reg.test%3A443"),
        ] {
            assert_eq!(passed(given, &named), expected);
        }
    }

    #[test]
    fn the_only_registry_s_own_name_is_left_out() {
        assert_eq!(
            passed("https://reg.test/v2/a/x?y=1", &Named::Silently),
            "/v2/a/x?y=1"
        );
        assert_eq!(passed("/v2/a/x", &Named::Silently), "/v2/a/x");
        assert_eq!(
            passed("https://s3.test/x", &Named::Silently),
            "https://s3.test/x"
        );
    }
}
