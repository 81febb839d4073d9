//! Blobs that are pushed through the proxy: they seed before the first pull asks for them.

use flotilla_registry::names::api_path::{ApiPath, Endpoint};
use flotilla_torrents::Digest;
use http::{Method, Uri};
use url::{Url, form_urlencoded};

/// The URL and the digest of the blob that a request has completed: `PUT …/blobs/uploads/ID` or
/// `POST …/blobs/uploads/`, both with `digest` (OCI distribution-spec, "Pushing blobs").
pub(crate) fn completed_upload(method: &Method, target: &Uri) -> Option<(Url, Digest)> {
    if *method != Method::PUT && *method != Method::POST {
        return None;
    }
    let ApiPath { prefix, endpoint } = target.path().parse().ok()?;
    let (Endpoint::NewUpload(repository) | Endpoint::Upload(repository, _)) = endpoint else {
        return None;
    };
    let mut parameters = form_urlencoded::parse(target.query()?.as_bytes());
    let (_, digest) = parameters.find(|(name, _)| name == "digest")?;
    let digest: Digest = digest.parse().ok()?;
    let origin = format!("{}://{}", target.scheme_str()?, target.authority()?);
    let path = ApiPath::blob(prefix, repository, digest.clone());
    Some((format!("{origin}{path}").parse().ok()?, digest))
}

/// Whether a `POST` to `target` starts an upload.
pub(crate) fn is_start(target: &Uri) -> bool {
    let path = target.path().parse();
    path.is_ok_and(|path: ApiPath| matches!(path.endpoint, Endpoint::NewUpload(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn completed(method: &Method, path: &str) -> Option<String> {
        let target = format!("http://reg.test:5000{path}").parse().unwrap();
        completed_upload(method, &target).map(|(url, _)| url.to_string())
    }

    #[test]
    fn the_request_with_the_digest_completes_an_upload() {
        let blob = format!("http://reg.test:5000/v2/a/b/blobs/{DIGEST}");
        let escaped = DIGEST.replace(':', "%3A");
        let path = format!("/v2/a/b/blobs/uploads/3f?_state=x%3D&digest={escaped}");
        assert_eq!(completed(&Method::PUT, &path), Some(blob.clone()));
        let path = format!("/v2/a/b/blobs/uploads/?digest={DIGEST}");
        assert_eq!(completed(&Method::POST, &path), Some(blob));
        let path = format!("/below/v2/a/blobs/uploads/3f?digest={DIGEST}");
        let blob = format!("http://reg.test:5000/below/v2/a/blobs/{DIGEST}");
        assert_eq!(completed(&Method::PUT, &path), Some(blob));
    }

    #[test]
    fn nothing_else_does() {
        for path in [
            "/v2/a/blobs/uploads/3f?_state=x".to_owned(),
            format!("/v2/a/blobs/uploads/?mount={DIGEST}&from=b"),
            format!("/v2/a/manifests/1?digest={DIGEST}"),
            "/v2/a/blobs/uploads/3f?digest=sha256:abc".to_owned(),
            format!("/v2/a/../b/blobs/uploads/3f?digest={DIGEST}"),
            format!("/v2/a%2Fb/blobs/uploads/3f?digest={DIGEST}"),
            format!("/v2/a/blobs/uploads/../3f?digest={DIGEST}"),
        ] {
            assert_eq!(completed(&Method::PUT, &path), None, "{path}");
        }
        let path = format!("/v2/a/blobs/uploads/3f?digest={DIGEST}");
        assert_eq!(completed(&Method::PATCH, &path), None);
    }
}
