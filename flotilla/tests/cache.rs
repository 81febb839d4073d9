//! `flotilla cache` as it is called, with a daemon and without.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod setup;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flotilla_client::store::Store;
use flotilla_torrents::{ContentId, DigestHasher, Geometry};
use rustix::process::Signal;
use setup::{Daemon, Outcome, Place};

/// A data directory with complete layers of these lengths.
struct Scratch(Place);

impl Scratch {
    fn with(lengths: &[usize]) -> (Self, Vec<ContentId>) {
        let scratch = Self(Place::new());
        let store = Store::open(scratch.dir(), u64::MAX).unwrap();
        let contents = lengths.iter().map(|&length| {
            let bytes: Vec<u8> = (0_u8..251).cycle().take(length).collect();
            let sha256 = DigestHasher::sha256_of(&bytes);
            let content = ContentId::blob(&sha256);
            let geometry = Geometry::for_length(length as u64).unwrap();
            let created = store.layer_or_create(&content, geometry, "http://registry");
            let layer = created.unwrap();
            store.complete(&layer, &bytes, sha256).unwrap();
            content
        });
        let contents = contents.collect();
        (scratch, contents)
    }

    fn dir(&self) -> &Path {
        self.0.dir()
    }

    fn run(&self, line: &str) -> Outcome {
        self.run_in(self.dir(), line)
    }

    fn run_in(&self, data_dir: &Path, line: &str) -> Outcome {
        let words = ["cache"].into_iter().chain(line.split(' '));
        let more = ["--data-dir", data_dir.to_str().unwrap()];
        self.0.run(&words.chain(more).collect::<Vec<_>>())
    }

    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let got = self.run(line);
        assert_eq!(got.code, 0, "{line}: {got:?}");
        got.out
    }

    #[track_caller]
    fn fails(&self, line: &str, expected: i32) -> (String, String) {
        let got = self.run(line);
        assert_eq!(got.code, expected, "{line}: {got:?}");
        (got.out, got.err)
    }

    fn damage(&self, content: &ContentId, at: u64) {
        let data = self
            .dir()
            .join("layers")
            .join(content.file_stem())
            .join("data");
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(data)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let listed: serde_json::Value = serde_json::from_str(&self.succeeds("ls --json")).unwrap();
        let layers = listed["layers"].as_array().unwrap().iter();
        layers
            .map(|l| l["content"].as_str().unwrap().to_owned())
            .collect()
    }

    fn daemon(&self, role: &str, more: &[&str]) -> Daemon {
        self.0.daemon(role, self.dir(), more)
    }

    fn proxy(&self) -> Daemon {
        // Nothing listens there: the node has what it has.
        self.daemon("proxy", &["--supernode", "http://127.0.0.1:9"])
    }
}

fn hex(content: &ContentId) -> &str {
    content.as_str().rsplit(':').next().unwrap()
}

#[test]
fn the_same_commands_work_with_a_proxy_a_supernode_and_neither() {
    for role in ["proxy", "supernode", "neither"] {
        let (scratch, contents) = Scratch::with(&[3 << 20, 2 << 20, 1000]);
        let daemon = match role {
            "proxy" => Some(scratch.proxy()),
            "supernode" => Some(scratch.daemon("supernode", &[])),
            _ => None,
        };
        let socket = scratch.dir().join("control.sock");
        assert_eq!(socket.exists(), daemon.is_some(), "{role}");
        let [large, middle, small] = [0, 1, 2].map(|at| &contents[at]);
        let listed = scratch.succeeds("ls");
        for content in &contents {
            let shown = &content.as_str()[..19];
            assert!(listed.contains(shown), "{shown} is missing in {listed}");
        }
        assert!(
            listed.contains("3.00 MiB") && listed.contains("100 %"),
            "{listed}"
        );

        scratch.succeeds(&format!("pin {}", &hex(large)[..10]));
        let (out, err) = scratch.fails("rm --all", 1);
        assert_eq!(out.matches("removed").count(), 2, "{out}");
        assert!(
            err.contains(large.as_str()) && err.contains("pinned"),
            "{err}"
        );
        assert_eq!(scratch.names(), [large.as_str()], "{role}");
        let (_, err) = scratch.fails(&format!("rm {middle} {small}"), 1);
        assert!(
            err.contains(middle.as_str()) && err.contains(small.as_str()),
            "{err}"
        );

        scratch.succeeds(&format!("unpin {large}"));
        scratch.succeeds(&format!("rm {large}"));
        assert!(scratch.names().is_empty());
        assert_eq!(
            fs::read_dir(scratch.dir().join("layers")).unwrap().count(),
            0
        );
        if let Some(daemon) = daemon {
            daemon.stop(Signal::TERM);
            assert!(!socket.exists(), "{role} left its socket");
        }
    }
}

#[test]
fn a_damaged_byte_is_found_and_the_layer_removed() {
    for with_daemon in [true, false] {
        let (scratch, contents) = Scratch::with(&[3 << 20, 2 << 20]);
        let _daemon = with_daemon.then(|| scratch.proxy());
        let out = scratch.succeeds("verify");
        assert_eq!(out.matches("intact").count(), 2, "{out}");
        scratch.damage(&contents[0], 700_000);
        let (out, err) = scratch.fails("verify", 1);
        assert!(out.contains(contents[1].as_str()), "{out}");
        assert!(
            err.contains(contents[0].as_str()) && err.contains("pieces 10"),
            "{err}"
        );
        assert_eq!(scratch.names(), [contents[1].as_str()]);
        scratch.succeeds(&format!("verify {}", contents[1]));
    }
}

#[test]
fn a_pin_survives_a_daemon_that_is_killed_and_its_socket_is_replaced() {
    let (scratch, contents) = Scratch::with(&[3 << 20, 2 << 20]);
    let daemon = scratch.proxy();
    scratch.succeeds(&format!("pin {}", contents[0]));
    daemon.stop(Signal::KILL);
    assert!(scratch.dir().join("control.sock").exists());
    assert!(scratch.succeeds("ls").contains("sealed, pinned"));
    let _daemon = scratch.proxy();
    assert!(scratch.succeeds("ls").contains("sealed, pinned"));
    scratch.fails(&format!("rm {}", contents[0]), 1);
}

#[test]
fn what_was_used_lately_stays_when_the_rest_is_removed() {
    let (scratch, contents) = Scratch::with(&[3 << 20, 2 << 20]);
    let old = scratch.dir().join("layers").join(contents[0].file_stem());
    let day = std::time::Duration::from_secs(24 * 3600);
    let record = fs::File::open(old.join("layer.json")).unwrap();
    let long_ago = std::time::SystemTime::now() - 10 * day;
    record.set_modified(long_ago).unwrap();
    assert_eq!(
        scratch.names(),
        [contents[1].as_str(), contents[0].as_str()]
    );
    scratch.succeeds("rm --older-than 11d");
    assert_eq!(scratch.names().len(), 2);
    scratch.succeeds("rm --older-than 9d");
    assert_eq!(scratch.names(), [contents[1].as_str()]);
}

#[test]
fn mistakes_are_named() {
    let (scratch, _) = Scratch::with(&[1000]);
    let (_, err) = scratch.fails("rm ffffffff", 1);
    assert!(
        err.contains("ffffffff") && err.contains("cache ls"),
        "{err}"
    );
    scratch.fails("rm --all --older-than 1d", 2);
    scratch.fails("pin --json", 2);
    let (_, err) = Scratch(Place::new()).fails("ls", 1);
    assert!(err.contains("--data-dir"), "{err}");
}

#[test]
fn a_data_directory_too_deep_for_a_socket_keeps_no_proxy_from_running() {
    let (scratch, _) = Scratch::with(&[1000]);
    let deep = scratch.dir().join("x".repeat(100));
    fs::create_dir(&deep).unwrap();
    fs::rename(scratch.dir().join("layers"), deep.join("layers")).unwrap();
    assert_eq!(scratch.run_in(&deep, "ls").code, 0);
    let more = ["--supernode", "http://127.0.0.1:9"];
    let _daemon = scratch.0.daemon("proxy", &deep, &more);
    let got = scratch.run_in(&deep, "ls");
    assert_eq!(got.code, 1);
    assert!(
        got.err.contains("in use") && got.err.contains("log"),
        "{got:?}"
    );
}
