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

mod fake_source;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use fake_source::{FakeSource, content, served};
use flotilla_torrents::DigestHasher;
use tempfile::TempDir;

const CONFIG: &[u8] = b"{\"architecture\":\"amd64\",\"os\":\"linux\"}";
const TOKEN: &str = "a-secret-of-this-cluster";
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
    process: Child,
    url: String,
    registry: String,
    dir: TempDir,
}

impl Supernode {
    fn start() -> Self {
        Self::listing(&[])
    }

    /// With further servers that may be preheated from.
    fn listing(more: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = serve_registry();
        let auth = format!(r#"{{"auths":{{"{registry}":{{"auth":"{LOGIN}"}}}}}}"#);
        fs::write(dir.path().join("auth.json"), auth).unwrap();
        fs::write(dir.path().join("token"), TOKEN).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .args(["supernode", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .args(["--join-token-file", "token", "--registry-auth", "auth.json"])
            .args(["--preheat-registry", &format!("http://{registry}")])
            .args(
                more.iter()
                    .flat_map(|server| ["--preheat-registry", server]),
            )
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        let url = ready.split(' ').find(|word| word.starts_with("http://"));
        Self {
            url: url.expect("its address").to_owned(),
            process,
            registry,
            dir,
        }
    }

    /// Exit code, stdout, stderr.
    fn preheat(&self, image: &str, token: &str, more: &[&str]) -> (i32, String, String) {
        let image = format!("{}/{image}", self.registry);
        self.call(&[&["preheat", &image], more].concat(), token)
    }

    /// The same of any command that asks supernodes.
    fn call(&self, args: &[&str], token: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .args(args)
            .args(["--supernode", &self.url])
            .env("FLOTILLA_JOIN_TOKEN", token)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }
}

impl Drop for Supernode {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The node `web-1`.
struct Proxy(Child);

impl Proxy {
    fn start(supernode: &Supernode) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_flotilla"))
            .args(["proxy", "--listen", "127.0.0.1:0", "--data-dir", "node"])
            .args(["--peer-listen", "127.0.0.1:0", "--node-name", "web-1"])
            .args(["--supernode", &supernode.url])
            .env("FLOTILLA_JOIN_TOKEN", TOKEN)
            .current_dir(supernode.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        Self(process)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_line_tells_of_each_layer_and_the_exit_code_of_all() {
    let supernode = Supernode::start();
    let (code, out, err) = supernode.preheat("team/app:1.0", TOKEN, &["--wait"]);
    let digest = DigestHasher::sha256_of(CONFIG);
    let line = format!(
        "{}/team/app:1.0 {digest} {} bytes, seeding\n",
        supernode.registry,
        CONFIG.len()
    );
    assert_eq!((code, out, err), (0, line, String::new()));

    let (code, out, err) = supernode.preheat("team/app:2.0", TOKEN, &["--wait"]);
    assert_eq!(code, 1);
    for text in [&out, &err] {
        assert!(
            text.contains("404 MANIFEST_UNKNOWN: manifest unknown"),
            "{text}"
        );
    }
    assert_eq!(err.lines().count(), 1, "{err}");

    let (code, _, err) = supernode.preheat("team/app:1.0", "another-secret-of-somebody", &[]);
    assert_eq!(code, 1);
    assert!(err.contains("join token"), "{err}");
}

#[test]
fn without_waiting_a_job_is_handed_over_and_its_end_is_told_to_who_waits() {
    let supernode = Supernode::start();
    let (code, out, err) = supernode.preheat("team/app:1.0", TOKEN, &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("preheat job ") && out.contains(&supernode.url),
        "{out}"
    );
    assert_eq!(out.lines().count(), 1, "{out}");
    let (code, _, err) = supernode.preheat("team/app:1.0", TOKEN, &["--nodes", "["]);
    assert_eq!(code, 1);
    assert!(err.contains("nodes"), "{err}");

    let proxy = Proxy::start(&supernode);
    let chosen = ["--nodes", "web-*", "--wait"];
    let waited = supernode.preheat("team/app:1.0", TOKEN, &chosen);
    let digest = DigestHasher::sha256_of(CONFIG);
    let held = Command::new(env!("CARGO_BIN_EXE_flotilla"))
        .args(["cache", "ls", "--data-dir", "node"])
        .current_dir(supernode.dir.path())
        .output()
        .unwrap();
    let others = supernode.preheat("team/app:1.0", TOKEN, &["--nodes", "db-*", "--wait"]);
    drop(proxy);
    assert_eq!((waited.0, waited.2.as_str()), (0, ""), "{}", waited.1);
    let held = String::from_utf8_lossy(&held.stdout).into_owned();
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
    let (code, out, err) = supernode.call(&[&["preheat", &url], &filter[..]].concat(), TOKEN);
    let line = format!("{} {} bytes, seeding\n", files.url("model.bin"), 3 << 20);
    assert_eq!((code, out, err), (0, line, String::new()));
    assert_eq!(bodies(), 1);

    let proxy = Proxy::start(&supernode);
    let args = [&["preheat", &url, "--nodes", "web-*"], &filter[..]].concat();
    let (code, _, err) = supernode.call(&args, TOKEN);
    assert_eq!((code, err.as_str()), (0, ""));
    let held = Command::new(env!("CARGO_BIN_EXE_flotilla"))
        .args(["cache", "ls", "--data-dir", "node"])
        .current_dir(supernode.dir.path())
        .output()
        .unwrap();
    let held = String::from_utf8_lossy(&held.stdout).into_owned();
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
    let (code, _, err) = supernode.call(&args, TOKEN);
    assert_eq!(code, 0, "{err}");
    let file = fs::read(supernode.dir.path().join("file")).unwrap();
    assert!(file == bytes);
    assert_eq!(bodies(), 1);

    let (code, _, err) = supernode.call(&["preheat", "http://127.0.0.1:1/a", "--wait"], TOKEN);
    assert_eq!(code, 1);
    assert!(
        err.contains("http://127.0.0.1:1") && err.contains("--preheat-registry"),
        "{err}"
    );
}
