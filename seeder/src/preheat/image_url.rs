//! From the URL of a manifest to the name of its image.

use flotilla_registry::names::api_path::{ApiPath, Endpoint};
use flotilla_registry::{ApiUrl, Reference};
use flotilla_torrents::Digest;
use url::Url;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Of a malformed URL, in characters.
const MAX_QUOTED_LENGTH: usize = 200;

/// A URL is not an image's.
#[derive(Debug, thiserror::Error)]
#[error("URL {0:?} is not http[s]://HOST/v2/REPOSITORY/manifests/REFERENCE")]
pub(crate) struct ImageUrlError(String);

/// The image at `http[s]://HOST/v2/REPOSITORY/manifests/REFERENCE`, as people name it. `digest` is
/// more than a tag when it is one.
pub(super) fn image_at(url: &str, digest: Option<&str>) -> Result<String, ImageUrlError> {
    let malformed = || ImageUrlError(url.chars().take(MAX_QUOTED_LENGTH).collect());
    let parsed = Url::parse(url).map_err(|_| malformed())?;
    let ApiPath { prefix, endpoint } = ApiUrl::of(&parsed).ok_or_else(malformed)?.path;
    let Endpoint::Manifest(repository, reference) = endpoint else {
        return Err(malformed());
    };
    // An image's name does not say below which path of its host a registry is.
    if !prefix.is_empty() {
        return Err(malformed());
    }
    let host = parsed.host_str().ok_or_else(malformed)?;
    let port = match parsed.port() {
        Some(port) => Some(port),
        None if host.contains('.') => None,
        // A name without a dot and a port is a repository's at Docker Hub.
        None if parsed.scheme() == "http" => Some(HTTP_PORT),
        None => Some(HTTPS_PORT),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
    let reference = match (digest, reference) {
        (Some(digest), _) | (None, Reference::Digest(digest)) => format!("@{digest}"),
        (None, Reference::Tag(tag)) => format!(":{tag}"),
    };
    Ok(format!("{host}{port}/{repository}{reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_registry::names::image_reference::ImageReference;

    #[test]
    fn a_manifest_s_url_names_an_image() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (url, given, image) in [
            (
                "https://h.test/v2/a/b/manifests/1.0",
                None,
                "h.test/a/b:1.0",
            ),
            (
                "http://h.test:8080/v2/a/manifests/1",
                None,
                "h.test:8080/a:1",
            ),
            ("http://harbor/v2/a/b/manifests/1", None, "harbor:80/a/b:1"),
            (
                "https://harbor/v2/a/b/manifests/1",
                None,
                "harbor:443/a/b:1",
            ),
            ("https://h.test/v2/a/manifests/1", Some(""), "h.test/a:1"),
            (
                "https://h.test/v2/a/manifests/1",
                Some("none"),
                "h.test/a:1",
            ),
            ("http://[::1]:5000/v2/a/manifests/1", None, "[::1]:5000/a:1"),
        ] {
            let found = image_at(url, given).unwrap();
            assert_eq!(found, image);
            let parsed: ImageReference = found.parse().unwrap();
            assert_ne!(parsed.host, "docker.io");
        }
        let at_digest = format!("h.test/a@{digest}");
        let found = image_at("https://h.test/v2/a/manifests/1", Some(&digest));
        assert_eq!(found.unwrap(), at_digest);
        let url = format!("https://h.test/v2/a/manifests/{digest}");
        assert_eq!(image_at(&url, None).unwrap(), at_digest);
    }

    #[test]
    fn other_urls_name_none() {
        for url in [
            "",
            "h.test/a:1",
            "ftp://h.test/v2/a/manifests/1",
            "https://h.test/v2/a/blobs/1",
            "https://u:p@h.test/v2/a/manifests/1",
            "https://h.test/v2/a/manifests/1?ns=x",
            "https://h.test/a/manifests/1",
            "https://h.test/below/v2/a/manifests/1",
            "https://h.test/v2/a/../b/manifests/%2e%2e",
            "https://h.test/v2/A%2Fb/manifests/1",
            "https://h.test/v2//manifests/1",
        ] {
            assert!(image_at(url, None).is_err(), "{url}");
        }
    }
}
