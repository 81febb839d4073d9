//! `flotilla get` through a supernode, in front of sources that misbehave.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod setup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use setup::fake_source::{Answer, Asked, FakeSource, content, served};
use setup::{Daemon, Place, md5_of, until};

const MB: usize = 1_000_000;

fn supernode(place: &Place) -> Daemon {
    place.daemon("supernode", &place.path("supernode"), &[])
}

/// Requests that were for more than a byte.
fn transfers(source: &FakeSource) -> Vec<Asked> {
    let requests = source.requests().into_iter();
    requests
        .filter(|asked| asked.header("range") != Some("bytes=0-0"))
        .collect()
}

fn well_behaved(length: usize) -> FakeSource {
    let bytes = content(length, 1);
    FakeSource::start(move |asked| served(asked, &bytes, "\"1\""))
}

#[test]
fn urls_that_differ_in_their_signatures_are_one_transfer_from_the_source() {
    let place = Place::new();
    let supernode = supernode(&place);
    let source = well_behaved(3 * MB);
    for (name, query) in [("a", "v=1&sig=one"), ("b", "v=1&sig=two")] {
        let url = source.url(&format!("f?{query}"));
        let got = place.get(&[
            &url,
            "-o",
            name,
            "--filter-query",
            "sig,exp",
            "--supernode",
            supernode.url(),
            "--no-fallback",
        ]);
        assert_eq!(got.code, 0, "{got:?}");
        assert_eq!(place.read(name), content(3 * MB, 1));
    }
    assert_eq!(transfers(&source).len(), 1);
    let asked = source.requests();
    assert_eq!(asked[0].target, "/f?v=1&sig=one");
    assert!(
        asked.iter().any(|asked| asked.target == "/f?v=1&sig=two"),
        "the second caller is checked with his own"
    );
    // Without the flag they are two contents.
    let got = place.get(&[
        &source.url("f?v=1&sig=three"),
        "-o",
        "c",
        "--supernode",
        supernode.url(),
    ]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(transfers(&source).len(), 2);
}

#[test]
fn small_files_and_ranges_come_through_the_swarm() {
    let place = Place::new();
    let supernode = supernode(&place);
    let source = well_behaved(3 * MB);
    let bytes = content(3 * MB, 1);
    for (name, range) in [("a", 1000..2000), ("b", 2_500_000..3 * MB)] {
        let asked = format!("{}-{}", range.start, range.end - 1);
        let got = place.get(&[
            &source.url("f"),
            "-o",
            name,
            "--range",
            &asked,
            "--supernode",
            supernode.url(),
            "--no-fallback",
        ]);
        assert_eq!(got.code, 0, "{got:?}");
        assert_eq!(place.read(name), &bytes[range]);
    }
    assert_eq!(transfers(&source).len(), 1);
    let small = well_behaved(5000);
    let got = place.get(&[
        &small.url("s"),
        "--supernode",
        supernode.url(),
        "--no-fallback",
    ]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("s"), content(5000, 1));
}

#[test]
fn a_download_killed_at_30_and_at_90_percent_fetches_next_to_nothing_twice() {
    let place = Place::new();
    let supernode = supernode(&place);
    let source = well_behaved(16 * MB);
    let arguments = [
        &source.url("f"),
        "--supernode",
        supernode.url(),
        "--json",
        "--download-rate",
        "4MB/s",
    ];
    for percent in [30, 90] {
        let mut running = place.start(&arguments);
        running.wait_for_bytes((16 * MB * percent / 100) as u64);
        running.kill();
        assert!(!place.exists("f"));
    }
    let got = place.get(&arguments);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(place.read("f") == content(16 * MB, 1));
    let twice = supernode.uploaded().saturating_sub(16 * MB as u64);
    println!("bytes fetched twice: {twice}");
    assert!(twice < 4 * 1024 * 1024, "{twice} bytes were fetched twice");
    assert!(got.event("resumed")["bytes"].as_u64().unwrap() > 8 * MB as u64);
    assert_eq!(transfers(&source).len(), 1);
    assert_eq!(place.names(), ["f", "supernode"]);
}

#[test]
fn when_the_supernode_dies_the_source_sends_only_what_is_missing() {
    let place = Place::new();
    let mut supernode = supernode(&place);
    let source = well_behaved(16 * MB);
    let arguments = [
        &source.url("f"),
        "--supernode",
        supernode.url(),
        "--json",
        "--download-rate",
        "4MB/s",
    ];
    let mut running = place.start(&arguments);
    running.wait_for_bytes(8 * MB as u64);
    let before = source.sent();
    supernode.kill();
    let switched = running.wait_for("source_switch", |_| true);
    running.wait_for("completed", |_| true);
    assert!(place.read("f") == content(16 * MB, 1));
    let kept = switched["bytes"].as_u64().unwrap();
    assert!(kept >= 7 * MB as u64, "{switched}");
    assert_eq!(source.sent() - before, 16 * MB as u64 - kept);
}

#[test]
fn without_fallback_the_source_is_not_asked() {
    let place = Place::new();
    let mut supernode = supernode(&place);
    let source = well_behaved(16 * MB);
    let arguments = [
        &source.url("f"),
        "--supernode",
        supernode.url(),
        "--json",
        "--download-rate",
        "2MB/s",
        "--no-fallback",
    ];
    let mut running = place.start(&arguments);
    running.wait_for_bytes(4 * MB as u64);
    let before = source.requests().len();
    supernode.kill();
    running.wait_for("failed", |event| {
        event["error"].as_str().unwrap().contains("swarm")
    });
    assert_eq!(source.requests().len(), before);
    assert!(!place.exists("f"));
}

#[test]
fn a_supernode_that_was_named_and_is_not_there_is_an_error() {
    let place = Place::new();
    let source = well_behaved(MB);
    let got = place.get(&[&source.url("f"), "--supernode", "http://127.0.0.1:1"]);
    assert_eq!(got.code, 1, "{got:?}");
    assert!(
        got.err.contains("http://127.0.0.1:1") && got.err.contains("--supernode"),
        "{got:?}"
    );
    assert_eq!(source.requests().len(), 0);
}

#[test]
fn a_swarm_below_the_least_rate_is_left_for_the_source() {
    let place = Place::new();
    let supernode = supernode(&place);
    let bytes = content(4 * MB, 1);
    let source = FakeSource::start(move |asked| {
        let answer = served(asked, &bytes, "\"1\"");
        // The supernode's own transfer crawls: 40 kB/s.
        if asked.number == 0 {
            answer.paced(4000, Duration::from_millis(100))
        } else {
            answer
        }
    });
    let got = place.get(&[
        &source.url("f"),
        "--supernode",
        supernode.url(),
        "--json",
        "--min-rate",
        "1MB/s",
    ]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(
        got.event("source_switch")["reason"]
            .as_str()
            .unwrap()
            .contains("--min-rate")
    );
    assert!(place.read("f") == content(4 * MB, 1));
}

#[test]
fn content_that_has_changed_since_is_fetched_anew_and_said_so() {
    let place = Place::new();
    let supernode = supernode(&place);
    let changed = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&changed);
    let (old, new) = (content(8 * MB, 1), content(8 * MB, 2));
    let source = FakeSource::start(move |asked| match now.load(Ordering::SeqCst) {
        false => served(asked, &old, "\"1\""),
        true => served(asked, &new, "\"2\""),
    });
    let arguments = [
        &source.url("f"),
        "--supernode",
        supernode.url(),
        "--json",
        "--download-rate",
        "4MB/s",
    ];
    let mut running = place.start(&arguments);
    running.wait_for_bytes(4 * MB as u64);
    running.kill();
    changed.store(true, Ordering::SeqCst);
    // The supernode does not ask the source again for some seconds.
    until(
        || "the supernode to notice the new content".to_owned(),
        || {
            let url = source.url("f");
            let range = ["-o", "probe", "--range", "0-99"];
            let supernodes = ["--supernode", supernode.url()];
            let probe = place.get(&[&[url.as_str()], &range[..], &supernodes[..]].concat());
            assert_eq!(probe.code, 0, "{probe:?}");
            (place.read("probe") == content(100, 2)).then_some(())
        },
    );
    let got = place.get(&arguments);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(
        got.event("restarted")["reason"]
            .as_str()
            .unwrap()
            .contains("changed")
    );
    assert!(place.read("f") == content(8 * MB, 2));
}

#[test]
fn misbehaving_sources_give_the_right_file_or_none() {
    let old = content(4 * MB, 1);
    let new = content(4 * MB, 2);
    let digest = md5_of(&old);
    let anew = md5_of(&new);
    type Behaviour = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;
    /// Name, behaviour, further arguments, and the right file.
    type Case<'a> = (&'a str, Behaviour, Vec<&'a str>, Option<&'a [u8]>);
    let cases: Vec<Case<'_>> = vec![
        (
            "too long",
            Box::new({
                let old = old.clone();
                move |asked| {
                    let answer = served(asked, &old, "\"1\"");
                    let lie = asked.header("range").is_none();
                    if lie {
                        answer.header("content-length", &(8 * MB).to_string())
                    } else {
                        answer
                    }
                }
            }),
            vec!["--retries", "1"],
            None,
        ),
        (
            "too short",
            Box::new({
                let old = old.clone();
                move |_| {
                    Answer::new(200, old.clone())
                        .header("etag", "\"1\"")
                        .header("content-length", "2000000")
                }
            }),
            vec!["--digest", &digest],
            None,
        ),
        (
            "changes",
            Box::new({
                let (old, new) = (old.clone(), new.clone());
                move |asked| match asked.number {
                    0 => served(asked, &old, "\"1\"").cut(2 * MB),
                    _ => served(asked, &new, "\"2\""),
                }
            }),
            vec!["--digest", &anew],
            Some(&new),
        ),
        (
            "ignores ranges",
            Box::new({
                let old = old.clone();
                move |asked| {
                    let whole = Answer::new(200, old.clone()).header("etag", "\"1\"");
                    if asked.number == 0 {
                        whole.cut(2 * MB)
                    } else {
                        whole
                    }
                }
            }),
            vec![],
            Some(&old),
        ),
        (
            "redirects in a loop",
            Box::new(|_| Answer::new(302, "").header("location", "/f")),
            vec![],
            None,
        ),
        (
            "an error page",
            Box::new(|asked| served(asked, b"<html>Later</html>", "\"1\"")),
            vec!["--digest", &digest],
            None,
        ),
        (
            "drops connections",
            Box::new({
                let old = old.clone();
                move |asked| served(asked, &old, "\"1\"").cut(MB)
            }),
            vec![],
            Some(&old),
        ),
    ];
    for (name, behaviour, arguments, expected) in cases {
        let place = Place::new();
        let supernode = supernode(&place);
        let source = FakeSource::start(behaviour);
        let (url, at) = (source.url("f"), supernode.url());
        let got = place.get(&[&[url.as_str(), "--supernode", at][..], &arguments].concat());
        match expected {
            Some(expected) => {
                assert_eq!(got.code, 0, "{name}: {got:?}");
                assert!(place.read("f") == expected, "{name}");
            }
            None => {
                assert_ne!(got.code, 0, "{name}: {got:?}");
                assert!(!place.exists("f"), "{name}");
                assert!(!got.err.is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn a_file_is_seeded_until_so_many_times_of_it_were_sent() {
    let place = Place::new();
    // A seeder of the file is faster.
    let more = ["--upload-rate", "1MB/s"];
    let supernode = place.daemon("supernode", &place.path("supernode"), &more);
    let source = well_behaved(4 * MB);
    let url = source.url("f");
    let arguments = |name| {
        let ways = ["--supernode", supernode.url(), "--no-fallback", "--json"];
        [&[url.as_str(), "-o", name], &ways[..]].concat()
    };
    let mut first = place.start(&[&arguments("a")[..], &["--seed-ratio", "0.3"]].concat());
    first.wait_for("completed", |_| true);
    let got = place.get(&arguments("b"));
    assert_eq!(got.code, 0, "{got:?}");
    assert!(place.read("b") == content(4 * MB, 1));
    assert_eq!(first.exit_code(), 0);
    let by_others = (8 * MB as u64).saturating_sub(supernode.uploaded());
    assert!(by_others >= (4 * MB) as u64 * 3 / 10, "{by_others} bytes");
}
