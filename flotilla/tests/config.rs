//! `flotilla config` and what a wrong configuration does to a role.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod setup;

use setup::{JOIN_TOKEN, Outcome, Place};

fn with_file(text: &str) -> Place {
    let place = Place::new();
    place.write("f.toml", text);
    place
}

/// The line of a key.
#[track_caller]
fn line<'a>(shown: &'a Outcome, key: &str) -> &'a str {
    let mut lines = shown.out.lines();
    let line = lines.find(|line| line.trim_start_matches("# ").starts_with(key));
    line.unwrap_or_else(|| panic!("no {key} in {}", shown.out))
}

#[test]
fn show_names_the_origin_of_every_value_and_no_secret() {
    let place = with_file(
        "[proxy]\nmirror_hosts = [\n  \"docker.io\",\n]\nupload_rate = \"20MB/s\"\n\
         download_rate = \"1MB/s\"\njoin_token_file = \"/f/token\"\n",
    );
    let mut command = place.command(&["config", "show", "proxy", "--config", "f.toml"]);
    command.args(["--upload-rate", "50MB/s", "--mirror-host", "ghcr.io"]);
    command.args(["--supernode", "http://me:hunter2@a:8001"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@c:4318");
    let shown = Place::outcome(&mut command);
    assert_eq!(shown.code, 0, "{shown:?}");
    for (key, value, origin) in [
        ("upload_rate", "\"50MB/s\"", "# --upload-rate"),
        ("download_rate", "\"1MB/s\"", "# f.toml:6"),
        ("    \"docker.io\"", "", "# f.toml:3"),
        ("    \"ghcr.io\"", "", "# --mirror-host"),
        ("    \"http://a:8001/\"", "", "# --supernode"),
        (
            "otlp_endpoint",
            "\"http://c:4318/\"",
            "# OTEL_EXPORTER_OTLP_ENDPOINT of the environment",
        ),
        ("cache_quota", "\"64GiB\"", "# default"),
        ("node_name", "", "# default: host name"),
        ("metrics_listen", "is not set", "# default: none"),
        ("join_token_file", "\"/f/token\"", "# f.toml:7"),
        ("join token:", "FLOTILLA_JOIN_TOKEN of the environment", ""),
    ] {
        let line = line(&shown, key);
        assert!(line.contains(value) && line.ends_with(origin), "{line}");
    }
    for secret in ["hunter2", JOIN_TOKEN] {
        assert!(!shown.out.contains(secret), "{}", shown.out);
    }
}

#[test]
fn what_show_prints_is_a_configuration_file() {
    let place = with_file("[supernode]\nlisten = \"127.0.0.1:7001\"\n");
    let shown = place.run(&["config", "show", "--config", "f.toml"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(line(&shown, "peer_listen").starts_with("peer_listen = \"127.0.0.1:8001\""));
    place.write("shown.toml", &shown.out);
    let checked = place.run(&["config", "check", "shown.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    for arguments in [
        &["config", "show", "--default"][..],
        &["config", "show", "supernode", "--default"],
        &["config", "show", "proxy", "--default"],
    ] {
        let defaults = place.run(arguments);
        place.write("default.toml", &defaults.out);
        let checked = place.run(&["config", "check", "default.toml"]);
        assert_eq!(checked.code, 0, "{checked:?}");
        let roles = ["[supernode]", "[proxy]"].map(|role| defaults.out.contains(role));
        let wanted =
            ["supernode", "proxy"].map(|role| arguments.len() == 3 || arguments[2] == role);
        assert_eq!(roles, wanted, "{arguments:?}");
    }
}

#[test]
fn check_and_a_role_report_every_mistake_and_end_with_2() {
    let place =
        with_file("[proxy]\nuplod_rate = \"1MB/s\"\nsupernodes = [\"ftp://a\"]\n\n[supernod]\n");
    let mistakes = [
        "flotilla: error: f.toml:2: [proxy] uplod_rate: unknown key; did you mean upload_rate?",
        "flotilla: error: f.toml:3: [proxy] supernodes: expected a URL such as http://10.0.0.1:8001",
        "flotilla: error: f.toml:5: [supernod]: unknown section; did you mean [supernode]?",
    ];
    for arguments in [
        &["config", "check", "f.toml"][..],
        &["config", "show", "--config", "f.toml"],
        &["proxy", "--config", "f.toml", "--data-dir", "d"],
        &["supernode", "--config", "f.toml", "--data-dir", "d"],
    ] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {outcome:?}");
        let lines: Vec<_> = outcome.err.lines().collect();
        assert_eq!(lines, mistakes, "{arguments:?}");
    }
    assert!(!place.exists("d"), "nothing was started");
}

#[test]
fn a_proxy_without_supernodes_says_where_they_are_named() {
    let place = with_file("");
    let outcome = place.run(&["proxy", "--config", "f.toml", "--data-dir", "d"]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    for place in [
        "--supernode",
        "/etc/flotilla/flotilla.toml",
        "/etc/dragonfly.conf",
    ] {
        assert!(outcome.err.contains(place), "{outcome:?}");
    }
}
