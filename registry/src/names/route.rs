//! What paths are called in traces and logs. It decides nothing.

use std::fmt;

use crate::names::api_path::{ApiPath, BASE, Endpoint};

/// Longest path in a trace, in characters.
const MAX_LENGTH: usize = 255;

/// The kind of path, of few (OCI distribution-spec, "Endpoints"): names of spans and what is counted
/// by them have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// A blob.
    Blob,
    /// A manifest.
    Manifest,
    /// A new upload.
    NewUpload,
    /// An upload that has begun.
    Upload,
    /// The tags of a repository.
    Tags,
    /// What refers to a manifest.
    Referrers,
    /// Not the API's.
    Other,
}

impl Route {
    /// What `path` is meant to be, also if [`ApiPath`] does not read it.
    pub fn of(path: &str) -> Self {
        if let Ok(path) = path.parse::<ApiPath>() {
            return Self::of_endpoint(&path.endpoint);
        }
        let Some(rest) = path.strip_prefix(BASE) else {
            return Self::Other;
        };
        let words: Vec<&str> = rest.rsplitn(4, '/').collect();
        match words.as_slice() {
            [_, "manifests", _, ..] => Self::Manifest,
            ["list", "tags", _, ..] => Self::Tags,
            [_, "referrers", _, ..] => Self::Referrers,
            ["", "uploads", "blobs", _] | ["uploads", "blobs", _, ..] => Self::NewUpload,
            [_, "uploads", "blobs", _] => Self::Upload,
            [_, "blobs", _, ..] => Self::Blob,
            _ => Self::Other,
        }
    }

    fn of_endpoint(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Base => Self::Base,
            Endpoint::Blob(..) => Self::Blob,
            Endpoint::Manifest(..) => Self::Manifest,
            Endpoint::NewUpload(..) => Self::NewUpload,
            Endpoint::Upload(..) => Self::Upload,
            Endpoint::Tags(..) => Self::Tags,
            Endpoint::Referrers(..) => Self::Referrers,
        }
    }

    /// As a template of paths, or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "/v2/",
            Self::Blob => "/v2/{name}/blobs/{digest}",
            Self::Manifest => "/v2/{name}/manifests/{reference}",
            Self::NewUpload => "/v2/{name}/blobs/uploads/",
            Self::Upload => "/v2/{name}/blobs/uploads/{reference}",
            Self::Tags => "/v2/{name}/tags/list",
            Self::Referrers => "/v2/{name}/referrers/{digest}",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A path as traces may have it: of blobs, manifests and their kin as it is, as long as a trace bears
/// it. Other paths may be secrets (uploads, signed links): only their kind is shown.
pub fn shown_path(path: &str) -> String {
    match Route::of(path) {
        kind @ (Route::Other | Route::Base | Route::Upload | Route::NewUpload) => kind.to_string(),
        _ => path.chars().take(MAX_LENGTH).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_few_kinds() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (path, kind) in [
            ("/v2/", "/v2/"),
            ("/v2/a/b/blobs/sha256:0", "/v2/{name}/blobs/{digest}"),
            ("/v2/a/manifests/1.0", "/v2/{name}/manifests/{reference}"),
            (
                "/v2/A%2Fb/manifests/1.0",
                "/v2/{name}/manifests/{reference}",
            ),
            ("/v2/a/blobs/uploads/", "/v2/{name}/blobs/uploads/"),
            (
                "/v2/a/blobs/uploads/1",
                "/v2/{name}/blobs/uploads/{reference}",
            ),
            ("/v2/a/blobs/uploads", "/v2/{name}/blobs/uploads/"),
            ("/v2/a/tags/list", "/v2/{name}/tags/list"),
            ("/v2/a/referrers/sha256:0", "/v2/{name}/referrers/{digest}"),
            (
                &format!("/artifactory/api/docker/x/v2/a/blobs/{digest}"),
                "/v2/{name}/blobs/{digest}",
            ),
            ("/hooks/secret", "other"),
            ("/hooks/v2/a/blobs/secret", "other"),
            ("/v2/blobs", "other"),
            ("/", "other"),
        ] {
            assert_eq!(Route::of(path).as_str(), kind, "{path}");
        }
    }

    #[test]
    fn a_path_that_may_be_a_secret_is_not_shown() {
        assert_eq!(shown_path("/v2/a/blobs/sha256:0"), "/v2/a/blobs/sha256:0");
        for secret in [
            "/hooks/s3cret",
            "/v2/a/blobs/uploads/s3cret",
            "/below/v2/a/blobs/uploads/s3cret",
        ] {
            assert!(!shown_path(secret).contains("s3cret"));
        }
        let long = format!("/v2/{}/blobs/sha256:0", "a".repeat(10_000));
        assert_eq!(shown_path(&long).len(), MAX_LENGTH);
    }
}
