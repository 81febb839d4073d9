//! The places that read a blob's URL agree on whose blob it is: what is opened, what is open to
//! everyone, and what it is called.

use flotilla_registry::{BlobUrl, origin_of};
use flotilla_torrents::Digest;
use proptest::prelude::*;
use url::Url;

use crate::public::repositories::{OpenRepository, PublicRepository};
use crate::stats::name_of;
use crate::swarms::is_for;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PIECES: &[&str] = &[
    "/", "v2", "/v2/", "/blobs/", "public", "private", "..", "/../", "%2e%2e", "%2F", "\\", "//",
    "A", "__", "___", "?x", "?", "#", "@", ":5000", "\u{ff0e}", DIGEST,
];

/// Blobs' URLs, the most of them with a piece inside that may make them something else.
fn url() -> impl Strategy<Value = Url> {
    let prefix = prop_oneof![3 => Just(""), 1 => Just("/repository/files"), 1 => Just("/a/v2")];
    let name = "(public|private)(/[a-z0-9]{1,3}){0,2}";
    let change = prop::option::of((prop::sample::select(PIECES), any::<prop::sample::Index>()));
    (prefix, name, change).prop_filter_map("no URL", |(prefix, name, change)| {
        let mut path = format!("{prefix}/v2/{name}/blobs/{DIGEST}");
        if let Some((piece, at)) = change {
            path.insert_str(at.index(path.len()), piece);
        }
        Url::parse(&format!("https://reg.test/{path}").replacen("test//", "test/", 1)).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_opened_is_what_is_listed_and_named(url in url()) {
        let digest: Digest = DIGEST.parse().unwrap();
        let blob = BlobUrl::of(&url).filter(|blob| *blob.digest() == digest);
        prop_assert_eq!(is_for(&url, Some(&digest)), blob.is_some());
        let listed = PublicRepository::of_blob(&url);
        let open: OpenRepository = "reg.test/public/*".parse().unwrap();
        let is_open = listed.as_ref().is_some_and(|listed| open.has(listed));
        let Some(blob) = blob else {
            // Of another digest, if of any.
            prop_assert!(listed.is_none() || BlobUrl::of(&url).is_some());
            return Ok(());
        };
        let (prefix, name) = (blob.prefix(), blob.repository());
        prop_assert_eq!(url.path(), format!("{prefix}/v2/{name}/blobs/{DIGEST}"));
        prop_assert_eq!(name_of(url.as_str()), format!("reg.test{prefix}/{name}"));
        prop_assert_eq!(origin_of(&url), format!("https://reg.test{prefix}"));
        let expected = prefix.is_empty().then(|| format!("reg.test:443/{name}"));
        prop_assert_eq!(listed.map(|listed| listed.to_string()), expected);
        let is_public = url.path().starts_with("/v2/public/") && !url.path().starts_with("/v2/public/blobs/sha");
        prop_assert_eq!(is_open, is_public);
    }
}
