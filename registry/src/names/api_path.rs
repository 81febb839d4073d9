//! Paths of a registry's API: the only place where they are taken apart.
//!
//! They decide who may have a blob, so [`ApiPath`] reads nothing that a registry, or a program before
//! it, may read in another way: no empty component, no dot segment, no percent-encoding, no upper case
//! in a repository's name. What it does not read is no error: the registry itself answers that.
//!
//! An API may lie below a path of its host: `/artifactory/api/docker/LOCAL/v2/NAME/blobs/DIGEST`. Two
//! such APIs are two registries, that do not share their word ([`PathPrefix`]).

use std::fmt;
use std::str::FromStr;

use flotilla_torrents::Digest;

use crate::names::reference::Reference;
use crate::names::repository::Repository;

/// The API's base: `GET` on it says whether a registry is here (OCI distribution-spec, "Determining
/// support").
pub const BASE: &str = "/v2/";
/// [`BASE`] as a component of a path.
const VERSION: &str = "v2";
/// Characters of a path before [`BASE`].
const MAX_PREFIX_LENGTH: usize = 255;
/// Characters of an upload's session.
const MAX_SESSION_LENGTH: usize = 1024;

/// Where on its host an API lies: nothing, or `/repository/docker`, without a slash at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(String);

/// A path of the API, read strictly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiPath {
    /// What is before `/v2/`.
    pub prefix: PathPrefix,
    /// What is behind it.
    pub endpoint: Endpoint,
}

/// What a path names (OCI distribution-spec, "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `/v2/`
    Base,
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Repository, Digest),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Repository, Reference),
    /// `/v2/NAME/blobs/uploads/`
    NewUpload(Repository),
    /// `/v2/NAME/blobs/uploads/SESSION`
    Upload(Repository, UploadSession),
    /// `/v2/NAME/tags/list`
    Tags(Repository),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Repository, Digest),
}

/// What a registry calls an upload in its paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadSession(String);

/// A path is not the API's, or may be read in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path of a registry's API")]
pub struct ApiPathError;

impl ApiPath {
    /// The path of a blob.
    pub fn blob(prefix: PathPrefix, repository: Repository, digest: Digest) -> Self {
        let endpoint = Endpoint::Blob(repository, digest);
        Self { prefix, endpoint }
    }

    /// The path of a manifest.
    pub fn manifest(prefix: PathPrefix, repository: Repository, reference: Reference) -> Self {
        let endpoint = Endpoint::Manifest(repository, reference);
        Self { prefix, endpoint }
    }

    /// The repository that it is in; the base is in none.
    pub fn repository(&self) -> Option<&Repository> {
        match &self.endpoint {
            Endpoint::Base => None,
            Endpoint::Blob(repository, _)
            | Endpoint::Manifest(repository, _)
            | Endpoint::NewUpload(repository)
            | Endpoint::Upload(repository, _)
            | Endpoint::Tags(repository)
            | Endpoint::Referrers(repository, _) => Some(repository),
        }
    }
}

impl PathPrefix {
    /// Whether the API is where it is at most registries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApiPath {
    type Err = ApiPathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let (prefix, rest) = around_base(path).ok_or(ApiPathError)?;
        Ok(Self {
            prefix: prefix.parse()?,
            endpoint: endpoint(rest).ok_or(ApiPathError)?,
        })
    }
}

/// What is before the base and what is behind it.
fn around_base(path: &str) -> Option<(&str, &str)> {
    if path.strip_prefix('/') == Some(VERSION) {
        return Some(("", ""));
    }
    if let Some(rest) = path.strip_prefix(BASE) {
        return Some(("", rest));
    }
    let (prefix, rest) = path.split_once(BASE)?;
    // With two of them it is not certain which one begins the API.
    let is_only = rest.split('/').all(|component| component != VERSION);
    is_only.then_some((prefix, rest))
}

/// The end decides: it is a digest or a word without a slash, whatever a repository is called.
fn endpoint(rest: &str) -> Option<Endpoint> {
    if rest.is_empty() {
        return Some(Endpoint::Base);
    }
    let (before, last) = rest.rsplit_once('/')?;
    if let Some(name) = before.strip_suffix("/blobs") {
        let name = name.parse().ok()?;
        return match last {
            "uploads" => Some(Endpoint::NewUpload(name)),
            digest => Some(Endpoint::Blob(name, digest.parse().ok()?)),
        };
    }
    if let Some(name) = before.strip_suffix("/blobs/uploads") {
        let name = name.parse().ok()?;
        return match last {
            "" => Some(Endpoint::NewUpload(name)),
            session => Some(Endpoint::Upload(name, session.parse().ok()?)),
        };
    }
    let (name, kind) = before.rsplit_once('/')?;
    let name = name.parse().ok()?;
    match (kind, last) {
        ("manifests", reference) => Some(Endpoint::Manifest(name, reference.parse().ok()?)),
        ("referrers", digest) => Some(Endpoint::Referrers(name, digest.parse().ok()?)),
        ("tags", "list") => Some(Endpoint::Tags(name)),
        _ => None,
    }
}

impl FromStr for PathPrefix {
    type Err = ApiPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_component = |component: &str| {
            !component.is_empty()
                && component != VERSION
                && !component.bytes().all(|byte| byte == b'.')
                && component.bytes().all(is_unreserved)
        };
        let is_prefix = match text.strip_prefix('/') {
            None => text.is_empty(),
            Some(path) => text.len() <= MAX_PREFIX_LENGTH && path.split('/').all(is_component),
        };
        is_prefix.then(|| Self(text.to_owned())).ok_or(ApiPathError)
    }
}

impl FromStr for UploadSession {
    type Err = ApiPathError;

    /// distribution takes `[a-zA-Z0-9-_.=]+`; `~` and `+` are as harmless.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_session = (1..=MAX_SESSION_LENGTH).contains(&text.len())
            && !text.bytes().all(|byte| byte == b'.')
            && text
                .bytes()
                .all(|byte| is_unreserved(byte) || b"=+".contains(&byte));
        is_session
            .then(|| Self(text.to_owned()))
            .ok_or(ApiPathError)
    }
}

/// RFC 3986 section 2.3: what means the same with and without percent-encoding, and is written
/// without.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{BASE}", self.prefix)?;
        match &self.endpoint {
            Endpoint::Base => Ok(()),
            Endpoint::Blob(name, digest) => write!(f, "{name}/blobs/{digest}"),
            Endpoint::Manifest(name, reference) => write!(f, "{name}/manifests/{reference}"),
            Endpoint::NewUpload(name) => write!(f, "{name}/blobs/uploads/"),
            Endpoint::Upload(name, session) => write!(f, "{name}/blobs/uploads/{}", session.0),
            Endpoint::Tags(name) => write!(f, "{name}/tags/list"),
            Endpoint::Referrers(name, digest) => write!(f, "{name}/referrers/{digest}"),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path is the API's base, however it is written.
pub fn is_base(path: &str) -> bool {
    path == BASE || path.strip_prefix('/') == Some(VERSION)
}

/// Splits `/v2/FIRST/REST` into its first component and `/v2/REST`, and leaves both as they are: the
/// registry reads them. Podman and its kin name a registry there.
pub fn take_first_component(path: &str) -> Option<(&str, String)> {
    let (first, rest) = path.strip_prefix(BASE)?.split_once('/')?;
    Some((first, format!("{BASE}{rest}")))
}

/// Makes `/v2/FIRST/REST` of `/v2/REST`, as it is.
pub fn put_first_component(first: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(BASE)?;
    Some(format!("{BASE}{first}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(path: &str) -> Option<ApiPath> {
        path.parse().ok()
    }

    fn name(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[test]
    fn every_endpoint_is_read() {
        let digest: Digest = DIGEST.parse().unwrap();
        let sha512 = format!("sha512:{}", "0a".repeat(64));
        for (path, endpoint) in [
            ("/v2/".to_owned(), Endpoint::Base),
            (
                format!("/v2/team/app/blobs/{DIGEST}"),
                Endpoint::Blob(name("team/app"), digest.clone()),
            ),
            (
                format!("/v2/x/blobs/{sha512}"),
                Endpoint::Blob(name("x"), sha512.parse().unwrap()),
            ),
            (
                "/v2/a/manifests/1.0".to_owned(),
                Endpoint::Manifest(name("a"), "1.0".parse().unwrap()),
            ),
            (
                format!("/v2/a/manifests/{DIGEST}"),
                Endpoint::Manifest(name("a"), Reference::Digest(digest.clone())),
            ),
            (
                "/v2/a/b/blobs/uploads/".to_owned(),
                Endpoint::NewUpload(name("a/b")),
            ),
            (
                "/v2/a/blobs/uploads/3f-_=".to_owned(),
                Endpoint::Upload(name("a"), UploadSession("3f-_=".to_owned())),
            ),
            ("/v2/a/tags/list".to_owned(), Endpoint::Tags(name("a"))),
            (
                format!("/v2/a/referrers/{DIGEST}"),
                Endpoint::Referrers(name("a"), digest),
            ),
        ] {
            for prefix in [
                "",
                "/repository/docker-1",
                "/artifactory/api/docker/My_repo.x",
            ] {
                let path = format!("{prefix}{path}");
                let read = parse(&path).unwrap();
                assert_eq!((read.prefix.as_str(), &read.endpoint), (prefix, &endpoint));
                assert_eq!(read.to_string(), path);
            }
        }
        for path in ["/v2", "/v2/a/blobs/uploads"] {
            assert_eq!(parse(path).unwrap().to_string(), format!("{path}/"));
        }
    }

    #[test]
    fn a_repository_may_be_called_as_a_part_of_the_api() {
        for (path, repository) in [
            (format!("/v2/a/blobs/b/blobs/{DIGEST}"), "a/blobs/b"),
            (format!("/v2/blobs/blobs/{DIGEST}"), "blobs"),
            (
                format!("/v2/a/blobs/uploads/blobs/{DIGEST}"),
                "a/blobs/uploads",
            ),
            ("/v2/a/manifests/b/manifests/1".to_owned(), "a/manifests/b"),
            (
                "/v2/a/blobs/uploads/b/blobs/uploads/1".to_owned(),
                "a/blobs/uploads/b",
            ),
            ("/v2/tags/list/tags/list".to_owned(), "tags/list"),
            // Which base is meant is certain: no other could be before the first.
            (format!("/v2/a/v2/b/blobs/{DIGEST}"), "a/v2/b"),
            (format!("/v2/v2/blobs/{DIGEST}"), "v2"),
        ] {
            let read = parse(&path).unwrap();
            assert_eq!(read.repository(), Some(&name(repository)), "{path}");
            assert_eq!(read.to_string(), path);
        }
    }

    #[test]
    fn paths_that_may_be_read_in_several_ways_are_left_to_the_registry() {
        let blob = |name: &str| format!("/v2/{name}/blobs/{DIGEST}");
        for path in [
            blob(""),
            blob("a//b"),
            blob("/a"),
            blob("a/"),
            blob("A"),
            blob("a%2Fb"),
            blob("a%2fb"),
            blob("%61"),
            blob("a___b"),
            blob("a..b"),
            blob("-a"),
            blob(".."),
            blob("a/../b"),
            blob("a/%2e%2e/b"),
            blob("a\\b"),
            blob("a\\..\\b"),
            blob("\u{e9}"),
            blob(&"a".repeat(256)),
            format!("/v2/blobs/{DIGEST}"),
            format!("//v2/a/blobs/{DIGEST}"),
            format!("/v2/a/blobs/{DIGEST}/"),
            format!("/v2/a/blobs/{DIGEST}?x=1"),
            format!("/v2/a/blobs/{DIGEST}#x"),
            format!("/v2/a/blobs//{DIGEST}"),
            format!("/v2/a/blobs/{}", DIGEST.to_uppercase()),
            format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A")),
            "/v2/a/blobs/sha256:ab".to_owned(),
            "/v2/a/manifests/".to_owned(),
            "/v2/a/manifests/..".to_owned(),
            "/v2/a/manifests/x%2f".to_owned(),
            "/v2/a/blobs/uploads/..".to_owned(),
            "/v2/a/blobs/uploads//".to_owned(),
            "/v2/a/blobs/uploads/1/2".to_owned(),
            "/v2/blobs/uploads/".to_owned(),
            "/v2/_catalog".to_owned(),
            "/v2//".to_owned(),
            "/v1/a/blobs/x".to_owned(),
            "/V2/".to_owned(),
            String::new(),
            "/".to_owned(),
            "v2/".to_owned(),
        ] {
            assert_eq!(parse(&path), None, "{path}");
        }
    }

    #[test]
    fn a_path_before_the_api_is_read_strictly() {
        let below = |prefix: &str| format!("{prefix}/v2/a/blobs/{DIGEST}");
        for prefix in [
            "/",
            "//a",
            "/a/",
            "/a//b",
            "/..",
            "/a/..",
            "/.",
            "/a%2fb",
            "/a\\b",
            "/a b",
            "a",
            "/a/v2",
            "/v2/a/v2//",
            "/\u{e9}",
            "/a?b",
            "/a#b",
            "/a;b",
            "/a:b@c",
            &format!("/{}", "a".repeat(MAX_PREFIX_LENGTH)),
        ] {
            assert_eq!(parse(&below(prefix)), None, "{prefix}");
        }
        // Registry `/x` with repository `a/v2/b`, or registry `/x/v2/a` with repository `b`?
        assert_eq!(parse(&format!("/x/v2/a/v2/b/blobs/{DIGEST}")), None);
        assert_eq!(parse("/x/v2/v2/manifests/1"), None);
    }

    #[test]
    fn the_first_component_comes_out_and_goes_in_as_it_is() {
        for path in ["/v2/other.test/team/app/x", "/v2/h//a%2fb", "/v2/A/../b"] {
            let (first, rest) = take_first_component(path).unwrap();
            assert_eq!(put_first_component(first, &rest).as_deref(), Some(path));
        }
        for path in ["/v2/", "/v2/a", "/v1/a/b", "/x/v2/a/b"] {
            assert_eq!(take_first_component(path), None, "{path}");
        }
        assert_eq!(put_first_component("h", "/x"), None);
    }
}
