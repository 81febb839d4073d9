//! The grammar of repositories and blob URLs, on generated input: what one place reads every place
//! reads, and hostile text never changes its meaning on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use flotilla_registry::names::api_path::{
    ApiPath, Endpoint, put_first_component, take_first_component,
};
use flotilla_registry::names::host::RegistryHost;
use flotilla_registry::names::image_reference::ImageReference;
use flotilla_registry::names::route::{Route, shown_path};
use flotilla_registry::{ApiUrl, BlobUrl, Reference, Repository, Tag, origin_of};
use flotilla_torrents::Digest;
use proptest::prelude::*;
use url::Url;

/// The expression of the specification, in the words of proptest.
const NAME: &str = r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}){0,3}";
const TAG: &str = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}";
const DIGEST: &str = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}";
/// Words of the API are components as well.
const PREFIX: &str =
    r"(/(artifactory|api|docker|repository|blobs|manifests|[A-Za-z0-9_~-]{1,6})){1,4}";
const BASE: &str = r"https?://(reg\.test|10\.0\.0\.1|\[fd00::1\])(:5000)?";

fn name() -> impl Strategy<Value = String> {
    let reserved =
        prop::sample::select(vec!["v2", "blobs", "manifests", "uploads", "tags", "list"]);
    prop_oneof![
        4 => NAME.prop_map(|name| name),
        1 => prop::collection::vec(reserved, 1..5).prop_map(|words| words.join("/")),
    ]
}

fn prefix() -> impl Strategy<Value = String> {
    // `/v2/v2/a` is no API below `/v2`, but the repository `v2/a`.
    let is_prefix = |prefix: &String| prefix.split('/').all(|component| component != "v2");
    let prefix = PREFIX.prop_filter("a component is the API's own", is_prefix);
    prop_oneof![Just(String::new()), prefix]
}

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Pieces of the grammar and of attacks on it.
const PIECES: &[&str] = &[
    "/",
    "/v2",
    "/v2/",
    "v2",
    "a",
    "b/c",
    "A",
    "/blobs/",
    "/blobs",
    "/manifests/",
    "/uploads/",
    "/tags/list",
    "..",
    "/../",
    "/./",
    ".",
    "%2e%2e",
    "%2E",
    "/%2e%2e/",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "\\..\\",
    "//",
    "%",
    "%61",
    "%00",
    "%0a",
    "\t",
    "\n",
    "\0",
    " ",
    "?",
    "?ns=x",
    "#",
    ";",
    "@",
    ":",
    "\u{2215}",
    "\u{ff0e}\u{ff0e}",
    "\u{ff41}",
    "\u{e9}",
    "\u{200b}",
    "\u{ad}",
    "__",
    "___",
    "-",
    "latest",
    EMPTY,
];

/// Pieces in any order, or one or two of them inside or in place of a part of a path that is read.
fn hostile_path() -> impl Strategy<Value = String> {
    let piece = || prop::sample::select(PIECES);
    let loose = prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat());
    let end = prop_oneof![
        Just(format!("blobs/{EMPTY}")),
        Just("manifests/1.0".to_owned()),
        Just("blobs/uploads/".to_owned()),
        Just("blobs/uploads/3f".to_owned()),
    ];
    let path =
        (prefix(), NAME, end).prop_map(|(prefix, name, end)| format!("{prefix}/v2/{name}/{end}"));
    let changes = prop::collection::vec((piece(), any::<prop::sample::Index>(), 0..3_usize), 1..3);
    let changed = (path, changes).prop_map(|(mut path, changes)| {
        for (piece, at, length) in changes {
            let ends: Vec<usize> = path.char_indices().map(|(index, _)| index).collect();
            // Not within the digest, which is most of the path.
            let first = at.index(ends.len().min(60));
            let last = ends.get(first + length).copied().unwrap_or(path.len());
            path.replace_range(ends[first]..last, piece);
        }
        path
    });
    prop_oneof![1 => loose, 3 => changed]
        .prop_map(|path| format!("/{}", path.strip_prefix('/').unwrap_or(&path)))
}

/// The specification's own expression, as slow and as plain as it is written.
fn is_name_by_the_specification(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_component = |component: &str| {
        let mut rest = component.trim_start_matches(is_word);
        if rest.len() == component.len() {
            return false;
        }
        while !rest.is_empty() {
            let dashes = rest.trim_start_matches('-');
            let behind = if dashes.len() < rest.len() {
                dashes
            } else if let Some(behind) = rest.strip_prefix("__") {
                behind
            } else if let Some(behind) = rest.strip_prefix(['.', '_']) {
                behind
            } else {
                return false;
            };
            rest = behind.trim_start_matches(is_word);
            if rest.len() == behind.len() {
                return false;
            }
        }
        true
    };
    text.len() <= 255 && text.split('/').all(is_component)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_name_is_read_just_if_the_specification_allows_it(
        text in prop_oneof![name(), r"[ab0._/-]{0,8}", r"[a-zA-Z0-9._/%-]{0,12}", any::<String>()],
    ) {
        let read = text.parse::<Repository>();
        prop_assert_eq!(read.is_ok(), is_name_by_the_specification(&text));
        if let Ok(name) = read {
            prop_assert_eq!(name.to_string(), text);
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<Repository>(&json).unwrap(), name);
        }
    }

    #[test]
    fn a_reference_is_written_as_it_was_read(text in prop_oneof![TAG, DIGEST, any::<String>()]) {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string(), text.clone());
            prop_assert_eq!(text.parse::<Tag>().is_ok(), text.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn a_path_is_written_as_it_was_read(
        prefix in prefix(), name in name(), tag in TAG, digest in DIGEST, session in "[A-Za-z0-9_=-]{1,40}",
    ) {
        for end in [
            format!("blobs/{digest}"),
            format!("manifests/{tag}"),
            format!("manifests/{digest}"),
            "blobs/uploads/".to_owned(),
            format!("blobs/uploads/{session}"),
            "tags/list".to_owned(),
            format!("referrers/{digest}"),
        ] {
            let path = format!("{prefix}/v2/{name}/{end}");
            let has_one_base = name.split('/').all(|component| component != "v2");
            match path.parse::<ApiPath>() {
                Ok(read) => {
                    prop_assert!(prefix.is_empty() || has_one_base);
                    prop_assert_eq!(read.to_string(), path);
                    prop_assert_eq!(read.prefix.as_str(), prefix.as_str());
                    prop_assert_eq!(read.repository().map(ToString::to_string), Some(name.clone()));
                }
                Err(_) => prop_assert!(!prefix.is_empty() && !has_one_base, "{}", path),
            }
        }
    }

    /// Request path, URL, what is opened, what is named, whose word counts.
    #[test]
    fn what_one_place_reads_every_place_reads(
        base in BASE, prefix in prefix(), name in NAME, digest in DIGEST,
    ) {
        let text = format!("{base}{prefix}/v2/{name}/blobs/{digest}");
        let url: Url = text.parse().unwrap();
        // The request's target is what the URL says, byte for byte.
        let target: http::Uri = text.parse().unwrap();
        prop_assert_eq!(target.path(), url.path());
        let Ok(path) = target.path().parse::<ApiPath>() else {
            // Two bases: the registry could be at either.
            prop_assert!(!prefix.is_empty() && name.split('/').any(|component| component == "v2"));
            prop_assert_eq!(BlobUrl::of(&url), None);
            prop_assert_eq!(ApiUrl::of(&url), None);
            return Ok(());
        };
        let blob = BlobUrl::of(&url).unwrap();
        prop_assert_eq!(blob.prefix(), &path.prefix);
        prop_assert_eq!(
            Endpoint::Blob(blob.repository().clone(), blob.digest().clone()),
            path.endpoint
        );
        prop_assert_eq!(Some(blob.registry().host().clone()), RegistryHost::of_url(&url));
        prop_assert_eq!(blob.to_url(), Some(url.clone()));
        prop_assert_eq!(ApiUrl::of(&url).and_then(|api| api.to_url()), Some(url.clone()));
        let host = base.split_once("://").unwrap().1;
        prop_assert_eq!(blob.name(), format!("{host}{prefix}/{name}"));
        prop_assert_eq!(origin_of(&url), format!("{base}{prefix}"));
        prop_assert_eq!(Route::of(target.path()), Route::Blob);
        prop_assert_eq!(shown_path(target.path()).len(), target.path().len().min(255));
        // An image of it is in the same repository.
        let image: ImageReference = format!("{}:5000/{name}@{digest}", "reg.test").parse().unwrap();
        prop_assert_eq!(&image.repository, blob.repository());
        prop_assert_eq!(image.reference, Reference::Digest(blob.digest().clone()));
    }

    /// Whatever a path holds: read as a request's target and read as a URL it is the same, or it is
    /// not read at all.
    #[test]
    fn a_hostile_path_keeps_its_meaning(path in prop_oneof![hostile_path(), "/\\PC{0,60}"]) {
        let read = path.parse::<ApiPath>().ok();
        let url = Url::parse(&format!("https://reg.test{path}")).ok();
        let _ = (Route::of(&path), shown_path(&path));
        if let Some((first, rest)) = take_first_component(&path) {
            prop_assert_eq!(put_first_component(first, &rest), Some(path.clone()));
        }
        let Some(read) = read else { return Ok(()) };
        let url = url.expect("what is read makes a URL");
        prop_assert_eq!(url.host_str(), Some("reg.test"));
        prop_assert_eq!(url.path(), path.as_str());
        let again = ApiUrl::of(&url).expect("what is read as a path is read as a URL");
        prop_assert_eq!(&again.path, &read);
        // What is written means the same, and a second reading changes nothing.
        prop_assert_eq!(read.to_string().parse::<ApiPath>().unwrap(), read);
    }

    /// What the URL parser makes of hostile text is read as what it says then.
    #[test]
    fn a_hostile_url_names_what_will_be_asked_for(
        path in hostile_path(), before in "https?://(u@|:p@|reg\\.test\\\\@)?reg\\.test",
    ) {
        let Ok(url) = Url::parse(&format!("{before}{path}")) else { return Ok(()) };
        let _ = origin_of(&url);
        if let Some(api) = ApiUrl::of(&url) {
            prop_assert!(url.username().is_empty() && url.password().is_none());
            prop_assert!(url.query().is_none() && url.fragment().is_none());
            let asked = url.path().to_owned();
            let written = api.path.to_string();
            // Two paths may be written shorter: the base and a new upload.
            prop_assert!(written == asked || written == format!("{asked}/"), "{}", asked);
            prop_assert_eq!(api.to_url().map(|url| url.origin()), Some(url.origin()));
        }
    }

    #[test]
    fn images_and_hosts_of_any_text_are_read_or_refused(text in prop_oneof![
        any::<String>(), r"[a-z.:/@\[\]0-9-]{0,40}", hostile_path(),
    ]) {
        if let Ok(image) = text.parse::<ImageReference>() {
            let name = image.repository.to_string();
            prop_assert!(name.parse::<Repository>().is_ok());
            prop_assert!(text.contains(name.trim_start_matches("library/")));
        }
        let _ = text.parse::<RegistryHost>();
    }
}
