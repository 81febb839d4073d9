//! `flotilla get` on a node whose proxy runs.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

const LENGTH: usize = 3 << 20;
const LOGIN: &str = "authorization: Bearer of-this-test";

/// A source that wants to see a token, and counts who takes the whole.
struct Source {
    addr: SocketAddr,
    whole_gets: Arc<AtomicUsize>,
}

impl Source {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let whole_gets = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&whole_gets);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || answer(&stream.unwrap(), &counter));
            }
        });
        Self { addr, whole_gets }
    }

    fn url(&self) -> String {
        format!("http://{}/files/model.bin", self.addr)
    }
}

fn bytes() -> Vec<u8> {
    (0_u8..251).cycle().take(LENGTH).collect()
}

fn answer(stream: &TcpStream, whole_gets: &AtomicUsize) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let head = head.to_ascii_lowercase();
    let body = bytes();
    let fields = "ETag: \"one\"\r\nConnection: close\r\n";
    let (status, body) = if !head.contains(&LOGIN.to_ascii_lowercase()) {
        ("401 Unauthorized\r\n".to_owned(), &body[..0])
    } else if head.contains("range: bytes=0-0") {
        let range = format!("Content-Range: bytes 0-0/{LENGTH}");
        (format!("206 Partial Content\r\n{range}\r\n"), &body[..1])
    } else {
        whole_gets.fetch_add(1, Ordering::SeqCst);
        ("200 OK\r\n".to_owned(), &body[..])
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}{fields}Content-Length: {length}\r\n\r\n");
    let mut stream = stream;
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn flotilla() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    command.env("FLOTILLA_JOIN_TOKEN", "secret-of-this-test-alone");
    command
}

/// Starts it; the line that says where it is.
fn start(role: &str, dir: &TempDir, more: &[&str]) -> (Daemon, String) {
    let mut child = flotilla()
        .args([role, "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .args(["--peer-listen", "127.0.0.1:0"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while !line.contains("ready") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "{role} did not start");
    }
    (Daemon(child), line)
}

/// A supernode and a node.
struct Cluster {
    dirs: [TempDir; 3],
    _daemons: [Daemon; 2],
}

impl Cluster {
    fn start() -> Self {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let (supernode, line) = start("supernode", &dirs[0], &[]);
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        let (proxy, _) = start("proxy", &dirs[1], &["--supernode", url.unwrap()]);
        Self {
            dirs,
            _daemons: [supernode, proxy],
        }
    }

    fn output(&self, name: &str) -> PathBuf {
        self.dirs[2].path().join(name)
    }

    fn get(&self, url: &str, name: &str, more: &[&str]) -> (i32, String) {
        let got = flotilla()
            .current_dir(self.dirs[2].path())
            .args(["get", url, "--quiet", "--no-netrc", "-o"])
            .arg(self.output(name))
            .arg("--daemon")
            .arg(self.dirs[1].path().join("control.sock"))
            .args(more)
            .output()
            .unwrap();
        let err = String::from_utf8(got.stderr).unwrap();
        (got.status.code().unwrap(), err)
    }
}

#[test]
fn a_file_is_fetched_once_and_is_on_the_disk_once() {
    let (source, cluster) = (Source::start(), Cluster::start());
    for name in ["one", "other"] {
        let (code, err) = cluster.get(&source.url(), name, &["--header", LOGIN]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(fs::read(cluster.output(name)).unwrap(), bytes());
    }
    assert_eq!(source.whole_gets.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read_dir(cluster.dirs[2].path()).unwrap().count(), 2);
    let [one, other] = ["one", "other"].map(|name| fs::metadata(cluster.output(name)).unwrap());
    // Else a reflink, or another file system.
    if one.ino() == other.ino() {
        assert_eq!(one.mode() & 0o777, 0o444);
    }
}

#[test]
fn who_may_not_have_it_from_the_source_does_not_get_it_from_the_cache() {
    let (source, cluster) = (Source::start(), Cluster::start());
    let (code, err) = cluster.get(&source.url(), "one", &["--header", LOGIN]);
    assert_eq!(code, 0, "{err}");
    let (code, err) = cluster.get(&source.url(), "other", &[]);
    assert_eq!(code, 4, "{err}");
    assert!(!cluster.output("other").exists());
}

#[test]
fn a_wrong_digest_leaves_no_file() {
    let (source, cluster) = (Source::start(), Cluster::start());
    for digest in [
        format!("sha256:{}", "0".repeat(64)),
        format!("md5:{}", "0".repeat(32)),
    ] {
        let more = ["--header", LOGIN, "--digest", &digest];
        let (code, err) = cluster.get(&source.url(), "one", &more);
        assert_eq!(code, 3, "{err}");
        assert!(!cluster.output("one").exists());
    }
    assert_eq!(source.whole_gets.load(Ordering::SeqCst), 1);
}
