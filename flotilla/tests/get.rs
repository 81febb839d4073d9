//! `flotilla get` straight from sources that misbehave.

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
use std::time::Duration;

use setup::fake_source::{Answer, Certificate, FakeSource, content, served};
use setup::{Place, md5_of};

const MB: usize = 1_000_000;

#[test]
fn a_file_comes_straight_from_its_source_named_as_in_the_url() {
    let place = Place::new();
    let bytes = content(3 * MB, 1);
    let served_bytes = bytes.clone();
    let source = FakeSource::start(move |asked| served(asked, &served_bytes, "\"1\""));
    let got = place.get(&[&source.url("a%20file?x=1"), "--json"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("a file"), bytes);
    let completed = got.event("completed");
    assert_eq!(completed["bytes"], 3 * MB as u64);
    assert_eq!(completed["file"], "a file");
    assert!(completed["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(place.names(), ["a file"], "nothing else is left");
    assert_eq!(source.requests().len(), 1);
}

#[test]
fn an_empty_file_is_a_file() {
    let place = Place::new();
    let source = FakeSource::start(|asked| served(asked, b"", "\"1\""));
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), b"");
}

#[test]
fn a_file_without_a_length_comes_to_its_end() {
    let place = Place::new();
    let source = FakeSource::start(|_| Answer {
        status: 200,
        body: content(MB, 1),
        ..Answer::default()
    });
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), content(MB, 1));
}

#[test]
fn a_source_that_announces_more_than_it_has_gives_no_file() {
    let place = Place::new();
    let source = FakeSource::start(|asked| {
        let answer = served(asked, &content(MB, 1), "\"1\"");
        match asked.header("range") {
            None => answer.header("content-length", &(2 * MB).to_string()),
            Some(_) => answer,
        }
    });
    let got = place.get(&[&source.url("f"), "--retries", "1"]);
    assert_eq!(got.code, 1, "{got:?}");
    assert!(!place.exists("f"));
}

#[test]
fn a_source_that_announces_less_than_it_has_does_not_pass_for_the_whole() {
    let place = Place::new();
    let whole = content(MB, 1);
    let digest = md5_of(&whole);
    let source = FakeSource::start(move |_| {
        Answer::new(200, whole.clone()).header("content-length", &(MB / 2).to_string())
    });
    let got = place.get(&[&source.url("f"), "--digest", &digest]);
    assert_eq!(got.code, 3, "{got:?}");
    assert!(!place.exists("f"));
}

#[test]
fn content_that_changes_in_the_middle_is_fetched_anew() {
    let place = Place::new();
    let source = FakeSource::start(|asked| match asked.number {
        0 => served(asked, &content(2 * MB, 1), "\"1\"").cut(MB),
        _ => served(asked, &content(2 * MB, 2), "\"2\""),
    });
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), content(2 * MB, 2));
    assert!(got.err.contains("changed"), "{got:?}");
    let asked = &source.requests()[1];
    assert_eq!(asked.header("if-range"), Some("\"1\""));
    assert_eq!(asked.header("range"), Some("bytes=1000000-1999999"));
}

#[test]
fn other_content_by_a_server_that_does_not_know_if_range_is_noticed() {
    let place = Place::new();
    let source = FakeSource::start(|asked| {
        if asked.number == 0 {
            return served(asked, &content(2 * MB, 1), "\"1\"").cut(MB);
        }
        let mut asked = asked.clone();
        asked.headers.remove("if-range");
        served(&asked, &content(2 * MB, 2), "\"2\"")
    });
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), content(2 * MB, 2));
}

#[test]
fn a_source_that_ignores_ranges_delivers_all_the_same() {
    let place = Place::new();
    let source = FakeSource::start(|asked| {
        let whole = Answer::new(200, content(2 * MB, 1)).header("etag", "\"1\"");
        if asked.number == 0 {
            whole.cut(MB)
        } else {
            whole
        }
    });
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), content(2 * MB, 1));
}

#[test]
fn a_loop_of_redirects_is_named() {
    let place = Place::new();
    let source = FakeSource::start(|_| Answer::new(302, "").header("location", "/f"));
    let got = place.get(&[&source.url("f")]);
    assert_eq!(got.code, 1, "{got:?}");
    assert!(got.err.contains("10 redirects"), "{got:?}");
    assert_eq!(source.requests().len(), 11);
}

#[test]
fn an_error_page_with_status_200_is_no_file() {
    let place = Place::new();
    let digest = md5_of(&content(MB, 1));
    let source = FakeSource::start(|_| Answer::new(200, "<html>Come back later</html>"));
    let got = place.get(&[&source.url("f"), "--digest", &digest]);
    assert_eq!(got.code, 3, "{got:?}");
    assert!(
        got.err.contains(&digest) && got.err.contains("mismatch"),
        "{got:?}"
    );
    assert!(!place.exists("f"));
}

#[test]
fn a_source_that_drops_the_connection_every_5_mb_is_gone_on_with() {
    let place = Place::new();
    let bytes = Arc::new(content(22 * MB, 1));
    let served_bytes = Arc::clone(&bytes);
    let source = FakeSource::start(move |asked| served(asked, &served_bytes, "\"1\"").cut(5 * MB));
    let got = place.get(&[&source.url("f"), "--digest", &md5_of(&bytes)]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(place.read("f") == *bytes);
    assert_eq!(source.sent(), 22 * MB as u64, "nothing twice");
    assert_eq!(source.requests().len(), 5);
}

#[test]
fn a_source_that_drops_connections_and_names_no_validator_is_gone_on_with_only_when_checked() {
    let place = Place::new();
    let bytes = Arc::new(content(3 * MB, 1));
    let served_bytes = Arc::clone(&bytes);
    let source = FakeSource::start(move |asked| {
        let mut answer = served(asked, &served_bytes, "\"1\"").cut(MB);
        answer.headers.retain(|(name, _)| name != "etag");
        answer
    });
    let unchecked = place.get(&[&source.url("f"), "--retries", "1"]);
    assert_eq!(unchecked.code, 1, "{unchecked:?}");
    assert!(unchecked.err.contains("validator"), "{unchecked:?}");
    let checked = place.get(&[&source.url("g"), "--digest", &md5_of(&bytes)]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(place.read("g") == *bytes);
}

#[test]
fn parts_that_do_not_add_up_to_the_digest_are_fetched_anew() {
    let place = Place::new();
    let new = content(2 * MB, 2);
    let digest = md5_of(&new);
    let source = FakeSource::start(move |asked| {
        let old = content(2 * MB, 1);
        let mut answer = match asked.number {
            0 => served(asked, &old, "\"1\"").cut(MB),
            _ => served(asked, &new, "\"1\""),
        };
        answer.headers.retain(|(name, _)| name != "etag");
        answer
    });
    let got = place.get(&[&source.url("f"), "--digest", &digest]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("f"), content(2 * MB, 2));
}

#[test]
fn a_source_of_1_kb_a_second_runs_into_the_timeout_and_is_gone_on_with() {
    let place = Place::new();
    let source = FakeSource::start(|asked| {
        let answer = served(asked, &content(100_000, 1), "\"1\"");
        match asked.number {
            0 => answer.paced(100, Duration::from_millis(100)),
            _ => answer,
        }
    });
    let got = place.get(&[&source.url("f"), "--timeout", "2s"]);
    assert_eq!(got.code, 5, "{got:?}");
    assert!(got.err.contains("--timeout"), "{got:?}");
    assert!(!place.exists("f"));
    let again = place.get(&[&source.url("f")]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(place.read("f"), content(100_000, 1));
    assert!(again.err.contains("resuming after"), "{again:?}");
    assert!(source.requests()[1].header("range").is_some());
}

#[test]
fn a_source_below_the_least_rate_is_given_up_with_the_reason() {
    let place = Place::new();
    let source = FakeSource::start(|asked| {
        served(asked, &content(100_000, 1), "\"1\"").paced(100, Duration::from_millis(100))
    });
    let got = place.get(&[&source.url("f"), "--min-rate", "50kB/s"]);
    assert_eq!(got.code, 5, "{got:?}");
    assert!(got.err.contains("--min-rate"), "{got:?}");
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_not() {
    let place = Place::new();
    let source = FakeSource::start(|asked| match asked.number {
        0 => Answer::new(503, "busy"),
        _ => served(asked, &content(MB, 1), "\"1\""),
    });
    assert_eq!(place.get(&[&source.url("f")]).code, 0);
    let missing = FakeSource::start(|_| Answer::new(404, "no"));
    let got = place.get(&[&missing.url("g")]);
    assert_eq!(got.code, 4, "{got:?}");
    assert!(got.err.contains("404"), "{got:?}");
    assert_eq!(missing.requests().len(), 1);
}

#[test]
fn a_download_killed_at_30_and_at_90_percent_fetches_next_to_nothing_twice() {
    let place = Place::new();
    let bytes = Arc::new(content(16 * MB, 1));
    let served_bytes = Arc::clone(&bytes);
    let source = FakeSource::start(move |asked| {
        served(asked, &served_bytes, "\"1\"").paced(64 * 1024, Duration::from_millis(10))
    });
    for percent in [30, 90] {
        let mut running = place.start(&[&source.url("f"), "--json"]);
        running.wait_for_bytes((16 * MB * percent / 100) as u64);
        running.kill();
        assert!(!place.exists("f"));
    }
    let got = place.get(&[&source.url("f"), "--json"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(place.read("f") == *bytes);
    assert!(got.event("resumed")["bytes"].as_u64().unwrap() > 13 * MB as u64);
    let twice = source.sent() - 16 * MB as u64;
    println!("bytes fetched twice: {twice}");
    // Twice what is written together, and what was in the sockets.
    assert!(twice < 1024 * 1024, "{twice} bytes were fetched twice");
    assert_eq!(place.names(), ["f"]);
}

#[test]
fn an_interrupted_download_goes_on_unless_the_content_has_changed() {
    let place = Place::new();
    let changed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = Arc::clone(&changed);
    let source = FakeSource::start(move |asked| {
        let answer = match now.load(std::sync::atomic::Ordering::SeqCst) {
            false => served(asked, &content(4 * MB, 1), "\"1\""),
            true => served(asked, &content(4 * MB, 2), "\"2\""),
        };
        answer.paced(64 * 1024, Duration::from_millis(10))
    });
    let mut running = place.start(&[&source.url("f"), "--json"]);
    running.wait_for_bytes(2 * MB as u64);
    assert_eq!(running.interrupt(), 130);
    changed.store(true, std::sync::atomic::Ordering::SeqCst);
    let got = place.get(&[&source.url("f"), "--json"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(
        got.event("restarted")["reason"]
            .as_str()
            .unwrap()
            .contains("changed")
    );
    assert_eq!(place.read("f"), content(4 * MB, 2));
}

#[test]
fn ranges_hold_just_that_also_from_a_source_that_serves_none() {
    let bytes = content(MB, 1);
    for serves_ranges in [true, false] {
        let place = Place::new();
        let source = FakeSource::start(move |asked| {
            let mut asked = asked.clone();
            if !serves_ranges {
                asked.headers.remove("range");
            }
            served(&asked, &content(MB, 1), "\"1\"")
        });
        for (name, range, expected) in [
            ("a", "1000-1999", &bytes[1000..2000]),
            ("b", "999000-", &bytes[999_000..]),
            ("c", "-500", &bytes[MB - 500..]),
            ("d", "999000-5000000", &bytes[999_000..]),
        ] {
            let got = place.get(&[&source.url("f"), "-o", name, "--range", range]);
            assert_eq!(got.code, 0, "{range}: {got:?}");
            assert_eq!(place.read(name), expected, "{range}");
        }
        let got = place.get(&[&source.url("f"), "-o", "e", "--range", "5000000-"]);
        assert_eq!(got.code, 1, "{got:?}");
        assert!(
            got.err.contains("--range") && got.err.contains("1000000"),
            "{got:?}"
        );
    }
}

#[test]
fn logins_stay_with_the_host_they_are_for() {
    let place = Place::new();
    let elsewhere = Arc::new(FakeSource::start(|asked| served(asked, b"there", "\"1\"")));
    let location = format!("http://localhost:{}/g", elsewhere.port());
    let source = FakeSource::start(move |_| Answer::new(302, "").header("location", &location));
    let url = source.url("f");
    let got = place.get(&[&url, "--user", "me:secret", "--header", "X-Token: secret"]);
    assert_eq!(got.code, 0, "{got:?}");
    let here = &source.requests()[0];
    assert_eq!(here.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(here.header("x-token"), Some("secret"));
    let there = &elsewhere.requests()[0];
    assert_eq!(
        (there.header("authorization"), there.header("x-token")),
        (None, None)
    );
    // netrc names the other host itself.
    place.write("netrc", "machine localhost login you password yours");
    let got = place.get(&[&url, "--netrc-file", "netrc", "-o", "h"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(source.requests()[1].header("authorization"), None);
    let there = &elsewhere.requests()[1];
    assert_eq!(there.header("authorization"), Some("Basic eW91OnlvdXJz"));
}

#[test]
fn proxies_come_from_the_environment() {
    let place = Place::new();
    let proxy = FakeSource::start(|asked| served(asked, b"by proxy", "\"1\""));
    let via = proxy.url("");
    let url = "http://nowhere.invalid/f";
    let got = place.get_with(&[url], &[("http_proxy", &via)]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(proxy.requests()[0].target, url);
    let none = [
        ("http_proxy", via.as_str()),
        ("no_proxy", "nowhere.invalid"),
    ];
    let got = place.get_with(&[url, "-o", "g", "--retries", "0"], &none);
    assert_eq!(got.code, 1, "{got:?}");
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn lists_are_got_side_by_side_and_one_failure_does_not_stop_the_others() {
    let place = Place::new();
    let source = FakeSource::start(|asked| match asked.target.as_str() {
        "/missing" => Answer::new(404, ""),
        target => served(asked, target.as_bytes(), "\"1\""),
    });
    let url = |path| source.url(path);
    let list = format!(
        "# files\n{}\n{}\tout=sub/b\n{}\n",
        url("a"),
        url("b?x"),
        url("missing")
    );
    place.write("list", &list);
    let got = place.get(&["-i", "list", "-P", "d", "-j", "3"]);
    assert_eq!(got.code, 4, "{got:?}");
    assert!(
        got.err.contains("1 of 3") && got.err.contains("404"),
        "{got:?}"
    );
    assert_eq!(place.read("d/a"), b"/a");
    assert_eq!(place.read("d/sub/b"), b"/b?x");
    place.write("list", &format!("{}\n{}\n", url("a"), url("c")));
    let got = place.get(&["-i", "list", "-P", "e"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.names_in("e"), ["a", "c"]);
}

#[test]
fn a_listing_is_followed_below_its_path_and_nowhere_else() {
    let place = Place::new();
    let source = FakeSource::start(|asked| match asked.target.as_str() {
        "/pub/" => Answer::new(
            200,
            "<a href=\"../\">..</a><a href=\"?C=N\">Name</a><a href=\"a.iso\">a</a><a href=\"b.txt\">b</a>\
             <a href=\"sub/\">sub</a><a href=\"skip/\">skip</a><a href=\"/etc/passwd\">x</a>\
             <a href=\"%2e%2e/up\">x</a><a href=\"..%2f..%2fup\">x</a><a href=\"http://other/f\">x</a>\
             <a href=\"link/\">x</a>",
        ),
        "/pub/sub/" => Answer::new(
            200,
            "[{\"name\":\"c d.iso\",\"type\":\"file\"},{\"name\":\"deep\",\"type\":\"directory\"}]",
        )
        .header("content-type", "application/json"),
        "/pub/sub/deep/" => Answer::new(200, "<a href='e.iso'>e</a>"),
        "/pub/link/" => Answer::new(200, "<a href='evil.iso'>e</a>"),
        target if target.ends_with(".iso") || target.ends_with(".txt") => {
            served(asked, target.as_bytes(), "\"1\"")
        }
        target => panic!("unexpected request for {target}"),
    });
    let url = source.url("pub/");
    let base = [
        "-r",
        &url,
        "-P",
        "d",
        "--exclude",
        "skip",
        "--exclude",
        "link",
    ];
    let got = place.get(&[&base[..], &["--include", "*.iso"]].concat());
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(place.read("d/a.iso"), b"/pub/a.iso");
    assert_eq!(place.read("d/sub/c d.iso"), b"/pub/sub/c%20d.iso");
    assert_eq!(place.read("d/sub/deep/e.iso"), b"/pub/sub/deep/e.iso");
    assert_eq!(place.names_in("d"), ["a.iso", "sub"]);
    // A link that stands there leads nowhere.
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("d/link")).unwrap();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let got = place.get(&[
        "-r",
        &url,
        "-P",
        "d",
        "--max-depth",
        "1",
        "--exclude",
        "skip",
    ]);
    assert_eq!(got.code, 1, "{got:?}");
    assert!(got.err.contains("symbolic link"), "{got:?}");
    assert_eq!(place.names_in("elsewhere"), [""; 0]);
    assert_eq!(place.read("d/b.txt"), b"/pub/b.txt");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let place = Place::new();
    let got = place.get(&[
        "ftp://h/f",
        "no-address",
        "--supernode",
        "http//nowhere",
        "--header",
        "secret",
        "--include",
        "[",
        "-r",
        "--netrc-file",
        "absent",
        "--seed-ratio",
        "-1",
    ]);
    assert_eq!(got.code, 2, "{got:?}");
    let got = place.get(&[
        "ftp://h/f",
        "http://h/",
        "--supernode",
        "http//nowhere",
        "--header",
        "secret",
        "--netrc-file",
        "absent",
    ]);
    assert_eq!(got.code, 2, "{got:?}");
    for part in ["ftp", "no file name", "http//nowhere", "--header", "absent"] {
        assert!(got.err.contains(part), "{part} is missing: {got:?}");
    }
    assert!(!got.err.contains("secret"), "{got:?}");
}

#[test]
fn a_certificate_file_without_certificates_is_named() {
    let place = Place::new();
    place.write("ca", "nothing");
    let got = place.get(&["https://h/f", "--cacert", "ca"]);
    assert_eq!(got.code, 1, "{got:?}");
    assert!(got.err.contains("ca: no PEM certificate"), "{got:?}");
}

#[test]
fn only_the_authorities_of_cacert_are_trusted_besides_the_system() {
    let place = Place::new();
    let (own, other) = (Certificate::new(), Certificate::new());
    place.write("own.pem", &own.pem());
    place.write("other.pem", &other.pem());
    let source = FakeSource::start_tls(&own, |asked| served(asked, &content(MB, 1), "\"1\""));
    let url = source.url("f");
    for untrusting in [&[][..], &["--cacert", "other.pem"]] {
        let got = place.get(&[&[url.as_str(), "--retries", "0"], untrusting].concat());
        assert_eq!(got.code, 1, "{got:?}");
        assert!(got.err.contains("certificate"), "{got:?}");
        assert!(!place.exists("f"));
    }
    assert_eq!(source.requests().len(), 0);
    let got = place.get(&[&url, "--cacert", "own.pem"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(place.read("f") == content(MB, 1));
}

#[test]
fn an_unknown_certificate_is_taken_only_when_told_so() {
    let place = Place::new();
    let source = FakeSource::start_tls(&Certificate::new(), |asked| {
        served(asked, &content(MB, 1), "\"1\"")
    });
    let got = place.get(&[&source.url("f"), "--retries", "0"]);
    assert_eq!((got.code, source.requests().len()), (1, 0), "{got:?}");
    for flag in ["--insecure", "-k"] {
        let got = place.get(&[&source.url("f"), flag]);
        assert_eq!(got.code, 0, "{flag}: {got:?}");
        assert!(place.read("f") == content(MB, 1));
    }
}

#[test]
fn globs_are_for_torrents_and_listings() {
    let place = Place::new();
    let got = place.get(&["http://127.0.0.1:9/f", "--include", "*.iso"]);
    assert_eq!(got.code, 2, "{got:?}");
    assert!(
        got.err.contains("--include") && got.err.contains("-r"),
        "{got:?}"
    );
}

#[test]
fn two_that_write_into_another_directory_are_not_in_each_others_way() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    let source = FakeSource::start(|asked| {
        let answer = served(asked, &content(MB, 1), "\"1\"");
        match asked.number {
            0 => answer.paced(10_000, Duration::from_millis(50)),
            _ => answer,
        }
    });
    let absolute = place.path("sub/a");
    let url = source.url("f");
    let first = ["--json", &url, "-o", absolute.to_str().unwrap()];
    let mut first = place.start(&first);
    first.wait_for_bytes(1);
    for name in ["sub/b", "sub/c"] {
        let got = place.get(&[&url, "-o", name]);
        assert_eq!(got.code, 0, "{got:?}");
    }
    assert!(first.is_running(), "it was not at the same time");
    assert_eq!(place.names(), ["sub"]);
    assert_eq!(first.exit_code(), 0);
    assert_eq!(place.names_in("sub"), ["a", "b", "c"]);
}
