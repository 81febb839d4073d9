//! A real Prometheus scrapes a supernode and a proxy, and answers what the dashboard asks.

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

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use setup::fake_source::{FakeSource, content, served};
use setup::{Background, Place, until};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The body of an answer, once there is one.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// The series that Prometheus has for a query.
fn series(prometheus: &str, query: &str) -> Vec<Value> {
    let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = get(prometheus, &format!("/api/v1/query?query={encoded}"));
    let answer = answer.and_then(|body| serde_json::from_str::<Value>(&body).ok());
    let result = answer.and_then(|answer| answer["data"]["result"].as_array().cloned());
    result.unwrap_or_default()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    until(|| what.to_owned(), || done().then_some(()));
}

#[test]
fn prometheus_has_data_for_every_query_of_the_dashboard() {
    let place = Place::new();
    let supernode = place.daemon("supernode", Path::new("s"), &[]);
    let url = supernode.url();
    let address = url.trim_start_matches("http://");
    let metrics = format!("127.0.0.1:{}", free_port());
    let more = ["--supernode", url, "--metrics-listen", &metrics];
    let _proxy = place.daemon("proxy", Path::new("p"), &more);
    let bytes = content(3_000_000, 1);
    let source = FakeSource::start(move |asked| served(asked, &bytes, "\"1\""));
    let got = place.get(&[
        &source.url("f"),
        "-o",
        "f",
        "--supernode",
        url,
        "--no-fallback",
        "--seed-for",
        "1s",
    ]);
    assert_eq!(got.code, 0, "{got:?}");

    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut checked = checked.expect("promtool, of the package prometheus");
    let text = get(&metrics, "/metrics").unwrap();
    checked
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = checked.wait_with_output().unwrap();
    assert!(
        said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(),
        "{said:?}"
    );

    let prometheus = format!("127.0.0.1:{}", free_port());
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - {{job_name: flotilla-supernode, static_configs: [{{targets: ['{address}']}}]}}\n\
         - {{job_name: flotilla-proxy, static_configs: [{{targets: ['{metrics}']}}]}}\n"
    );
    place.write("prometheus.yml", &config);
    let started = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            place.path("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            place.path("tsdb").display()
        ))
        .arg(format!("--web.listen-address={prometheus}"))
        .arg("--log.level=error")
        .spawn();
    let _prometheus = Background(started.expect("prometheus, of the package of that name"));
    wait_for("both are scraped", || {
        series(&prometheus, "up == 1").len() == 2
    });

    let dashboard = std::fs::read_to_string(format!("{DEPLOY}/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() >= 16, "{queries:?}");
    for query in queries {
        let query = query.replace("$__rate_interval", "10s");
        wait_for(&query, || !series(&prometheus, &query).is_empty());
    }
    let received = series(
        &prometheus,
        "flotilla_supernode_registry_received_bytes_total",
    );
    assert_eq!(received[0]["value"][1], "3000000");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let rules = Command::new("promtool")
        .args(["test", "rules", "prometheus-alerts-test.yml"])
        .current_dir(DEPLOY)
        .output()
        .expect("promtool, of the package prometheus");
    assert!(
        rules.status.success(),
        "{}",
        String::from_utf8_lossy(&rules.stderr)
    );
    let read = |name: &str| std::fs::read_to_string(format!("{DEPLOY}/{name}")).unwrap();
    let (rules, tests) = (
        read("prometheus-alerts.yml"),
        read("prometheus-alerts-test.yml"),
    );
    for name in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            tests.contains(&format!("alertname: {name}")),
            "{name} has no test"
        );
    }
}
