//! `flotilla preheat` as it is called, with a supernode that has a login of its own.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod setup;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use flotilla_torrents::DigestHasher;
use setup::fake_source::{FakeSource, content, served};
use setup::{Daemon, JOIN_TOKEN, Place};

const CONFIG: &[u8] = b"{\"architecture\":\"amd64\",\"os\":\"linux\"}";
/// `robot:harbour-light`
const LOGIN: &str = "cm9ib3Q6aGFyYm91ci1saWdodA==";

/// A registry with Basic credentials, one image and one blob.
fn serve_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let fields: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let is_known = fields.iter().any(|field| field.ends_with(LOGIN));
    let digest = DigestHasher::sha256_of(CONFIG);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":{}}},"layers":[]}}"#,
        CONFIG.len()
    );
    let (status, body) = match first.split(' ').nth(1)? {
        _ if !is_known => ("401 Unauthorized", &b"{}"[..]),
        "/v2/team/app/manifests/1.0" => ("200 OK", manifest.as_bytes()),
        path if path.starts_with("/v2/team/app/blobs/") => ("200 OK", CONFIG),
        _ => (
            "404 Not Found",
            &br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#[..],
        ),
    };
    let challenge = "WWW-Authenticate: Basic realm=\"registry\"";
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{challenge}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()
}

struct Supernode {
    place: Place,
    daemon: Daemon,
    registry: String,
}

impl Supernode {
    fn start() -> Self {
        Self::listing(&[])
    }

    /// With further servers that may be preheated from.
    fn listing(more: &[String]) -> Self {
        let place = Place::new();
        let registry = serve_registry();
        let auth = format!(r#"{{"auths":{{"{registry}":{{"auth":"{LOGIN}"}}}}}}"#);
        place.write("auth.json", &auth);
        let own = format!("http://{registry}");
        let mut arguments = vec!["--registry-auth", "auth.json", "--preheat-registry", &own];
        for server in more {
            arguments.extend(["--preheat-registry", server]);
        }
        let daemon = place.daemon("supernode", Path::new("data"), &arguments);
        Self {
            place,
            daemon,
            registry,
        }
    }

    fn url(&self) -> &str {
        self.daemon.url()
    }

    /// Exit code, stdout, stderr.
    fn preheat(&self, image: &str, token: &str, more: &[&str]) -> (i32, String, String) {
        let image = format!("{}/{image}", self.registry);
        self.call(&[&["preheat", &image], more].concat(), token)
    }

    /// Any command that asks supernodes.
    fn call(&self, args: &[&str], token: &str) -> (i32, String, String) {
        let mut command = self.place.command(args);
        command.args(["--supernode", self.url()]);
        let outcome = Place::outcome(command.env("FLOTILLA_JOIN_TOKEN", token));
        (outcome.code, outcome.out, outcome.err)
    }

    /// Starts the node `web-1`, with its data in `node`.
    fn proxy(&self) -> Daemon {
        let more = ["--node-name", "web-1", "--supernode", self.url()];
        self.place.daemon("proxy", Path::new("node"), &more)
    }

    /// What the node holds.
    fn held(&self) -> String {
        self.place.run(&["cache", "ls", "--data-dir", "node"]).out
    }
}

#[test]
fn one_line_tells_of_each_layer_and_the_exit_code_of_all() {
    let supernode = Supernode::start();
    let (code, out, err) = supernode.preheat("team/app:1.0", JOIN_TOKEN, &["--wait"]);
    let digest = DigestHasher::sha256_of(CONFIG);
    let line = format!(
        "{}/team/app:1.0 {digest} {} bytes, seeding\n",
        supernode.registry,
        CONFIG.len()
    );
    assert_eq!((code, out, err), (0, line, String::new()));

    let (code, out, err) = supernode.preheat("team/app:2.0", JOIN_TOKEN, &["--wait"]);
    assert_eq!(code, 1);
    for text in [&out, &err] {
        assert!(
            text.contains("404 MANIFEST_UNKNOWN: manifest unknown"),
            "{text}"
        );
    }
    assert_eq!(err.lines().count(), 1, "{err}");

    let (code, _, err) = supernode.preheat("team/app:1.0", "another-secret-altogether", &[]);
    assert_eq!(code, 1);
    assert!(err.contains("join token"), "{err}");
}

#[test]
fn without_waiting_a_job_is_handed_over_and_its_end_is_told_to_who_waits() {
    let supernode = Supernode::start();
    let (code, out, err) = supernode.preheat("team/app:1.0", JOIN_TOKEN, &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("preheat job ") && out.contains(supernode.url()),
        "{out}"
    );
    assert_eq!(out.lines().count(), 1, "{out}");
    let (code, _, err) = supernode.preheat("team/app:1.0", JOIN_TOKEN, &["--nodes", "["]);
    assert_eq!(code, 1);
    assert!(err.contains("nodes"), "{err}");

    let proxy = supernode.proxy();
    let chosen = ["--nodes", "web-*", "--wait"];
    let waited = supernode.preheat("team/app:1.0", JOIN_TOKEN, &chosen);
    let digest = DigestHasher::sha256_of(CONFIG);
    let held = supernode.held();
    let others = supernode.preheat("team/app:1.0", JOIN_TOKEN, &["--nodes", "db-*", "--wait"]);
    drop(proxy);
    assert_eq!((waited.0, waited.2.as_str()), (0, ""), "{}", waited.1);
    assert!(held.contains(&digest.to_string()[..19]), "{held}");
    assert_eq!(others.0, 1);
    assert!(others.2.contains("db-*"), "{}", others.2);
}

#[test]
fn a_preheated_file_is_got_without_reading_its_source_again() {
    let bytes = content(3 << 20, 1);
    let files = {
        let bytes = bytes.clone();
        FakeSource::start(move |asked| served(asked, &bytes, "\"1\""))
    };
    let server = files.url("").trim_end_matches('/').to_owned();
    let supernode = Supernode::listing(&[server]);
    let bodies = || {
        let asked = files.requests().into_iter();
        let is_body = |range: Option<&str>| range != Some("bytes=0-0");
        asked.filter(|asked| is_body(asked.header("range"))).count()
    };
    let url = files.url("model.bin?sig=harbour-light");
    let filter = ["--filter-query", "sig", "--wait"];
    let (code, out, err) = supernode.call(&[&["preheat", &url], &filter[..]].concat(), JOIN_TOKEN);
    let line = format!("{} {} bytes, seeding\n", files.url("model.bin"), 3 << 20);
    assert_eq!((code, out, err), (0, line, String::new()));
    assert_eq!(bodies(), 1);

    let proxy = supernode.proxy();
    let args = [&["preheat", &url, "--nodes", "web-*"], &filter[..]].concat();
    let (code, _, err) = supernode.call(&args, JOIN_TOKEN);
    assert_eq!((code, err.as_str()), (0, ""));
    let held = supernode.held();
    assert!(
        held.contains("3.00 MiB") || held.contains("3145728"),
        "{held}"
    );
    drop(proxy);

    let other = files.url("model.bin?sig=another");
    let args = [
        "get",
        &other,
        "-o",
        "file",
        "--filter-query",
        "sig",
        "--no-daemon",
    ];
    let (code, _, err) = supernode.call(&args, JOIN_TOKEN);
    assert_eq!(code, 0, "{err}");
    let file = supernode.place.read("file");
    assert!(file == bytes);
    assert_eq!(bodies(), 1);

    let (code, _, err) = supernode.call(&["preheat", "http://127.0.0.1:1/a", "--wait"], JOIN_TOKEN);
    assert_eq!(code, 1);
    assert!(
        err.contains("http://127.0.0.1:1") && err.contains("--preheat-registry"),
        "{err}"
    );
}
