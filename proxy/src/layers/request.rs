//! Which requests the swarm may answer.

use flotilla_client::ByteRange;
use flotilla_registry::Repository;
use flotilla_registry::names::api_path::{ApiPath, Endpoint, PathPrefix};
use flotilla_torrents::Digest;
use http::header::{
    self, CONTENT_LENGTH, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Uri};

use crate::layers::range::single_range;

/// `GET /v2/<name>/blobs/<digest>`: OCI distribution-spec, section "Pulling blobs".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobRequest {
    pub(crate) prefix: PathPrefix,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    pub(crate) range: Option<ByteRange>,
}

impl BlobRequest {
    /// None for everything that only the registry can answer: other methods and paths,
    /// conditional requests, ranges that registries treat differently, unusual forms.
    pub(crate) fn recognise(method: &Method, target: &Uri, headers: &HeaderMap) -> Option<Self> {
        if method != Method::GET
            || target.query().is_some()
            || has_body(headers)
            || is_conditional(headers)
        {
            return None;
        }
        let ApiPath { prefix, endpoint } = target.path().parse().ok()?;
        let Endpoint::Blob(repository, digest) = endpoint else {
            return None;
        };
        let range = match single(headers, &RANGE)? {
            None => None,
            Some(range) => Some(single_range(range)?),
        };
        Some(Self {
            prefix,
            repository,
            digest,
            range,
        })
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

fn is_conditional(headers: &HeaderMap) -> bool {
    [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
    ]
    .iter()
    .any(|name| headers.contains_key(name))
}

/// The value of a header that may stand once; None if it stands twice or is not text.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn recognise(path: &str, headers: &[(header::HeaderName, &str)]) -> Option<BlobRequest> {
        let target = Uri::try_from(format!("http://reg.test:5000{path}")).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        BlobRequest::recognise(&Method::GET, &target, &map)
    }

    #[test]
    fn a_layer_is_recognised() {
        let blob = recognise(&format!("/v2/team/a_b/c--d.e__f/blobs/{DIGEST}"), &[]).unwrap();
        assert_eq!(blob.repository.as_str(), "team/a_b/c--d.e__f");
        assert_eq!(blob.digest.to_string(), DIGEST);
        assert_eq!(blob.range, None);
        let sha512 = format!("sha512:{}", "0a".repeat(64));
        assert!(recognise(&format!("/v2/x/blobs/{sha512}"), &[]).is_some());
    }

    #[test]
    fn a_repository_may_be_called_blobs() {
        let blob = recognise(&format!("/v2/a/blobs/b/blobs/{DIGEST}"), &[]).unwrap();
        assert_eq!(blob.repository.as_str(), "a/blobs/b");
    }

    #[test]
    fn a_registry_may_lie_below_a_path() {
        let path = format!("/artifactory/api/docker/Local/v2/a/blobs/{DIGEST}");
        let blob = recognise(&path, &[]).unwrap();
        assert_eq!(blob.prefix.as_str(), "/artifactory/api/docker/Local");
        assert_eq!(blob.repository.as_str(), "a");
    }

    #[test]
    fn unusual_paths_are_left_to_the_registry() {
        for path in [
            format!("/v2//blobs/{DIGEST}"),
            format!("/v2/a//b/blobs/{DIGEST}"),
            format!("/v2/A/blobs/{DIGEST}"),
            format!("/v2/a%2Fb/blobs/{DIGEST}"),
            format!("/x/../v2/a/blobs/{DIGEST}"),
            format!("/x/v2/a/v2/b/blobs/{DIGEST}"),
            format!("/v2/a___b/blobs/{DIGEST}"),
            format!("/v2/a..b/blobs/{DIGEST}"),
            format!("/v2/-a/blobs/{DIGEST}"),
            format!("/v2/a/blobs/{DIGEST}?x=1"),
            format!("/v2/a/blobs/{DIGEST}?"),
            format!("/v2/a/blobs/{}", DIGEST.to_uppercase()),
            format!("/v2/a/blobs/{DIGEST}/"),
            "/v2/a/blobs/sha256:ab".to_owned(),
            format!("/v2/a/manifests/{DIGEST}"),
            "/v2/a/blobs/uploads/".to_owned(),
            format!("/v2/{}/blobs/{DIGEST}", "a".repeat(256)),
        ] {
            assert_eq!(recognise(&path, &[]), None, "{path}");
        }
    }

    #[test]
    fn conditions_and_odd_ranges_are_left_to_the_registry() {
        let path = format!("/v2/a/blobs/{DIGEST}");
        assert_eq!(
            recognise(&path, &[(RANGE, "bytes=4-")]).unwrap().range,
            Some(ByteRange::From(4))
        );
        assert_eq!(recognise(&path, &[(IF_NONE_MATCH, "\"x\"")]), None);
        assert_eq!(
            recognise(&path, &[(IF_RANGE, "\"x\""), (RANGE, "bytes=4-")]),
            None
        );
        assert_eq!(recognise(&path, &[(RANGE, "bytes=0-1,3-4")]), None);
        assert_eq!(
            recognise(&path, &[(RANGE, "bytes=0-1"), (RANGE, "bytes=3-4")]),
            None
        );
        assert_eq!(recognise(&path, &[(CONTENT_LENGTH, "3")]), None);
        assert!(recognise(&path, &[(CONTENT_LENGTH, "0")]).is_some());
    }

    mod of_any_path {
        use flotilla_registry::{BlobUrl, origin_of};
        use proptest::prelude::*;
        use url::Url;

        use super::super::*;
        use super::DIGEST;
        use crate::manifests::tee::ManifestRequest;
        use crate::pushes::completion::completed_upload;

        const PIECES: &[&str] = &[
            "/",
            "v2",
            "/v2/",
            "a",
            "A",
            "/blobs/",
            "/manifests/",
            "/uploads/",
            "..",
            "/../",
            "/./",
            "%2e%2e",
            "%2F",
            "//",
            "___",
            "?x",
            "?",
            "1.0",
            DIGEST,
        ];

        fn target() -> impl Strategy<Value = Uri> {
            let end = prop_oneof![
                3 => Just(format!("blobs/{DIGEST}")),
                1 => Just("manifests/1.0".to_owned()),
                1 => Just(format!("blobs/uploads/3f?digest={DIGEST}")),
            ];
            let prefix = prop_oneof![2 => Just(""), 1 => Just("/repository/docker")];
            let change = (prop::sample::select(PIECES), any::<prop::sample::Index>());
            let parts = (
                prefix,
                "[a-z]{1,3}(/[a-z]{1,3})?",
                end,
                prop::option::of(change),
            );
            parts.prop_filter_map("no target", |(prefix, name, end, change)| {
                let mut path = format!("{prefix}/v2/{name}/{end}");
                if let Some((piece, at)) = change {
                    // Behind the slash that ends the authority.
                    path.insert_str(1 + at.index(path.len()), piece);
                }
                format!("http://reg.test:5000{path}").parse().ok()
            })
        }

        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 4000,
                failure_persistence: None,
                ..ProptestConfig::default()
            })]

            /// The supernode reads the URL, the registry reads the target: both mean one blob.
            #[test]
            fn what_the_swarm_is_asked_for_is_what_the_registry_would_be(target in target()) {
                let url: Url = target.to_string().parse().unwrap();
                let recognised = BlobRequest::recognise(&Method::GET, &target, &HeaderMap::new());
                // An empty query is one.
                let read = BlobUrl::of(&url).filter(|_| url.path() == target.path());
                prop_assert_eq!(recognised.is_some(), read.is_some(), "{}", target);
                if let (Some(blob), Some(read)) = (recognised, read) {
                    prop_assert_eq!(&blob.repository, read.repository());
                    prop_assert_eq!(&blob.prefix, read.prefix());
                    prop_assert_eq!(&blob.digest, read.digest());
                    prop_assert!(ManifestRequest::recognise(&Method::GET, &target).is_none());
                }
                if let Some((pushed, digest)) = completed_upload(&Method::PUT, &target) {
                    let read = BlobUrl::of(&pushed).unwrap();
                    prop_assert_eq!(read.digest(), &digest);
                    let upload = format!("{}/v2/{}/blobs/uploads", read.prefix(), read.repository());
                    prop_assert!(target.path().starts_with(&upload), "{}", target);
                    prop_assert_eq!(origin_of(&pushed), format!("http://reg.test:5000{}", read.prefix()));
                }
            }
        }
    }
}
