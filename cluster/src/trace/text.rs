//! What may be told of requests.

use url::Url;

use crate::redact::redacted;

/// Longest text of an attribute, in characters.
const MAX_LENGTH: usize = 255;

/// The kind of path, of few (OCI distribution specification, section "Endpoints"): names of spans
/// and what is counted by them have to be.
pub fn route(path: &str) -> &'static str {
    let Some(rest) = path.strip_prefix("/v2/") else {
        return "other";
    };
    let words: Vec<&str> = rest.rsplitn(4, '/').collect();
    match words.as_slice() {
        ["", ..] if rest.is_empty() => "/v2/",
        [_, "manifests", _, ..] => "/v2/{name}/manifests/{reference}",
        ["list", "tags", _, ..] => "/v2/{name}/tags/list",
        [_, "referrers", _, ..] => "/v2/{name}/referrers/{digest}",
        ["", "uploads", "blobs", _] => "/v2/{name}/blobs/uploads/",
        [_, "uploads", "blobs", _] => "/v2/{name}/blobs/uploads/{reference}",
        ["uploads", "blobs", _, ..] => "/v2/{name}/blobs/uploads/",
        [_, "blobs", _, ..] => "/v2/{name}/blobs/{digest}",
        _ => "other",
    }
}

/// The path as it may be told: of blobs, manifests and their kin as it is, as long as a trace
/// bears it; other paths may be secrets (uploads, signed links), of them only the kind is told.
pub fn path(path: &str) -> String {
    match route(path) {
        kind @ ("other"
        | "/v2/"
        | "/v2/{name}/blobs/uploads/{reference}"
        | "/v2/{name}/blobs/uploads/") => kind.to_owned(),
        _ => path.chars().take(MAX_LENGTH).collect(),
    }
}

/// A reason as it may be told: URLs in it without user, password and query.
pub fn harmless(reason: &str) -> String {
    let words = reason.split(' ').map(|word| {
        if !word.contains("://") {
            return word.to_owned();
        }
        match Url::parse(word) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => redacted(&url),
            _ => "…".to_owned(),
        }
    });
    let words: Vec<String> = words.collect();
    words.join(" ").chars().take(MAX_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_few_kinds() {
        for (path, kind) in [
            ("/v2/", "/v2/"),
            ("/v2/a/b/blobs/sha256:0", "/v2/{name}/blobs/{digest}"),
            ("/v2/a/manifests/1.0", "/v2/{name}/manifests/{reference}"),
            ("/v2/a/blobs/uploads/", "/v2/{name}/blobs/uploads/"),
            (
                "/v2/a/blobs/uploads/1",
                "/v2/{name}/blobs/uploads/{reference}",
            ),
            ("/v2/a/blobs/uploads", "/v2/{name}/blobs/uploads/"),
            ("/v2/a/tags/list", "/v2/{name}/tags/list"),
            ("/v2/a/referrers/sha256:0", "/v2/{name}/referrers/{digest}"),
            ("/hooks/secret", "other"),
            ("/v2/blobs", "other"),
            ("/", "other"),
        ] {
            assert_eq!(route(path), kind, "{path}");
        }
    }

    #[test]
    fn a_path_that_may_be_a_secret_is_not_told() {
        assert_eq!(path("/v2/a/blobs/sha256:0"), "/v2/a/blobs/sha256:0");
        for secret in ["/hooks/s3cret", "/v2/a/blobs/uploads/s3cret"] {
            assert!(!path(secret).contains("s3cret"));
        }
        let long = format!("/v2/{}/blobs/sha256:0", "a".repeat(10_000));
        assert_eq!(path(&long).len(), MAX_LENGTH);
    }

    #[test]
    fn a_reason_tells_no_password() {
        assert_eq!(
            harmless("supernode http://u:p@a:8001/?k=v cannot be reached: refused"),
            "supernode http://a:8001/ cannot be reached: refused"
        );
        assert_eq!(harmless("see (http://u:p@a:8001)"), "see …");
    }
}
