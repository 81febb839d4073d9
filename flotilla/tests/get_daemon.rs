//! `flotilla get` on a node whose proxy runs.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod setup;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use setup::fake_source::{Answer, FakeSource, content, served};
use setup::{Daemon, Outcome, Place, Running};

const LENGTH: usize = 3 << 20;
const LOGIN: &str = "Authorization: Bearer of-this-test";

/// A source that wants to see a token.
fn source() -> FakeSource {
    let bytes = content(LENGTH, 1);
    FakeSource::start(move |asked| {
        let token = LOGIN.split_once(": ").map(|(_, token)| token);
        if asked.header("authorization") == token {
            served(asked, &bytes, "\"one\"")
        } else {
            Answer::new(401, "")
        }
    })
}

/// Those who took more than a byte.
fn transfers(source: &FakeSource) -> usize {
    let requests = source.requests();
    let mut known = requests
        .iter()
        .filter(|asked| asked.header("authorization").is_some());
    let is_probe = |range| range == Some("bytes=0-0");
    known
        .by_ref()
        .filter(|asked| !is_probe(asked.header("range")))
        .count()
}

/// A supernode and a node.
struct Cluster {
    place: Place,
    _daemons: [Daemon; 2],
}

impl Cluster {
    fn start() -> Self {
        let place = Place::new();
        let supernode = place.daemon("supernode", &place.path("supernode"), &[]);
        let more = ["--supernode", supernode.url()];
        let proxy = place.daemon("proxy", &place.path("node"), &more);
        Self {
            place,
            _daemons: [supernode, proxy],
        }
    }

    fn arguments<'a>(url: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let own = [
            url,
            "-o",
            name,
            "--no-netrc",
            "--daemon",
            "node/control.sock",
        ];
        [&own, more].concat()
    }

    fn get(&self, url: &str, name: &str, more: &[&str]) -> Outcome {
        self.place.get(&Self::arguments(url, name, more))
    }

    fn start_get(&self, url: &str, name: &str, more: &[&str]) -> Running {
        self.place.start(&Self::arguments(url, name, more))
    }
}

#[test]
fn a_file_is_fetched_once_and_is_on_the_disk_once() {
    let (source, cluster) = (source(), Cluster::start());
    for name in ["one", "other"] {
        let got = cluster.get(&source.url("files/model.bin"), name, &["--header", LOGIN]);
        assert_eq!(got.code, 0, "{got:?}");
        assert!(cluster.place.read(name) == content(LENGTH, 1));
    }
    assert_eq!(transfers(&source), 1);
    assert_eq!(cluster.place.names(), ["node", "one", "other", "supernode"]);
    let [one, other] = ["one", "other"].map(|name| fs::metadata(cluster.place.path(name)).unwrap());
    // Else a reflink, or another file system.
    if one.ino() == other.ino() {
        assert_eq!(one.mode() & 0o777, 0o444);
    }
}

#[test]
fn who_may_not_have_it_from_the_source_does_not_get_it_from_the_cache() {
    let (source, cluster) = (source(), Cluster::start());
    let got = cluster.get(&source.url("files/model.bin"), "one", &["--header", LOGIN]);
    assert_eq!(got.code, 0, "{got:?}");
    let got = cluster.get(&source.url("files/model.bin"), "other", &[]);
    assert_eq!(got.code, 4, "{got:?}");
    assert!(!cluster.place.exists("other"));
}

#[test]
fn a_wrong_digest_leaves_no_file() {
    let (source, cluster) = (source(), Cluster::start());
    for digest in [
        format!("sha256:{}", "0".repeat(64)),
        format!("md5:{}", "0".repeat(32)),
    ] {
        let more = ["--header", LOGIN, "--digest", &digest];
        let got = cluster.get(&source.url("files/model.bin"), "one", &more);
        assert_eq!(got.code, 3, "{got:?}");
        assert!(!cluster.place.exists("one"));
    }
    assert_eq!(transfers(&source), 1);
}

#[test]
fn twenty_at_once_are_one_download() {
    let (source, cluster) = (source(), Cluster::start());
    let url = source.url("files/model.bin");
    let names: Vec<String> = (0..20).map(|number| format!("file{number}")).collect();
    let running: Vec<Running> = names
        .iter()
        .map(|name| cluster.start_get(&url, name, &["--header", LOGIN, "--json"]))
        .collect();
    for get in running {
        assert_eq!(get.exit_code(), 0);
    }
    for name in &names {
        assert!(cluster.place.read(name) == content(LENGTH, 1), "{name}");
    }
    assert_eq!(transfers(&source), 1);
}
