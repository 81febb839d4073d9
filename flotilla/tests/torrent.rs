//! `flotilla torrent` as it is called.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod setup;

use std::fs;
use std::path::PathBuf;

use setup::{Daemon, Outcome, Place};

const INFO_HASH_OF_DIRECTORY: &str = "63d14fed692092396a7e5d744b1fdf66a6d28ff2";
const INFO_HASH_OF_PRIVATE_FILE: &str = "119ccffd9c0f1695c5d4dfd540f22424284a0be0";

struct Scratch(Place);

impl Scratch {
    /// A directory `set` of 65,605 bytes in four files, and a symbolic link.
    fn new() -> Self {
        let scratch = Self(Place::new());
        let set = scratch.path("set");
        fs::create_dir_all(set.join("a")).unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        fs::write(set.join("a-b"), "hello").unwrap();
        fs::write(set.join("a/one.bin"), "flotilla".repeat(5000)).unwrap();
        fs::write(set.join("a/two"), "").unwrap();
        fs::write(set.join("z.bin"), bytes.repeat(100)).unwrap();
        std::os::unix::fs::symlink("z.bin", set.join("link")).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Runs `flotilla torrent` in the directory.
    fn run(&self, line: &str) -> Outcome {
        let words = ["torrent"].into_iter().chain(line.split(' '));
        self.0.run(&words.collect::<Vec<_>>())
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

    fn create_set(&self) {
        self.succeeds("create set -o set.torrent --piece-length 16KiB");
    }

    fn flip(&self, name: &str, at: usize) {
        let path = self.path(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn the_info_hashes_are_those_of_an_independent_implementation() {
    let scratch = Scratch::new();
    let line = "create set -o set.torrent --piece-length 16KiB";
    let got = scratch.run(line);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(got.out.contains(INFO_HASH_OF_DIRECTORY), "{got:?}");
    let left_out = "not in the torrent: set/link: symbolic link";
    assert!(got.err.contains(left_out), "{got:?}");
    let line = "create set/a/one.bin -o one.torrent --piece-length 16384 --private";
    let out = scratch.succeeds(line);
    assert!(out.contains(INFO_HASH_OF_PRIVATE_FILE), "{out}");
    assert_eq!(scratch.0.names(), ["one.torrent", "set", "set.torrent"]);
}

#[test]
fn equal_content_gives_equal_bytes() {
    let scratch = Scratch::new();
    let options = "--tracker http://a/x --web-seed http://w/ --comment c";
    scratch.succeeds(&format!("create set -o 1.torrent {options}"));
    fs::write(scratch.path("set/a-b"), "hello").unwrap();
    scratch.succeeds(&format!("create ./set/ -o 2.torrent {options}"));
    let read = |name| fs::read(scratch.path(name)).unwrap();
    assert_eq!(read("1.torrent"), read("2.torrent"));
}

#[test]
fn what_is_created_is_shown() {
    let scratch = Scratch::new();
    scratch.succeeds(
        "create set -o set.torrent --piece-length 16KiB --private --comment hello \
         --tracker http://a/x,http://b/x --tracker udp://c:1 --web-seed https://w/d",
    );
    let shown: serde_json::Value =
        serde_json::from_str(&scratch.succeeds("show set.torrent --json")).unwrap();
    assert_eq!(shown["name"], "set");
    assert_eq!(shown["length"], 65_605);
    assert_eq!(
        (&shown["piece_length"], &shown["pieces"]),
        (&16_384.into(), &5.into())
    );
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "hello");
    let trackers = serde_json::json!([["http://a/x", "http://b/x"], ["udp://c:1"]]);
    assert_eq!(shown["trackers"], trackers);
    assert_eq!(shown["web_seeds"], serde_json::json!(["https://w/d/"]));
    let files = shown["files"].as_array().unwrap();
    let paths: Vec<_> = files.iter().map(|file| &file["path"]).collect();
    assert_eq!(paths, ["a-b", "a/one.bin", "a/two", "z.bin"]);
    let hash = shown["info_hash"].as_str().unwrap();
    let magnet = format!(
        "magnet:?xt=urn:btih:{hash}&dn=set&tr=http%3A%2F%2Fa%2Fx&tr=http%3A%2F%2Fb%2Fx\
         &tr=udp%3A%2F%2Fc%3A1&ws=https%3A%2F%2Fw%2Fd%2F"
    );
    assert_eq!(shown["magnet"], magnet);
    let text = scratch.succeeds("show set.torrent");
    for expected in [
        hash,
        &magnet,
        "tier 2: udp://c:1",
        "https://w/d/",
        "a/one.bin",
        "16KiB",
        "65605 bytes",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn an_output_file_is_replaced_only_when_told_so() {
    let scratch = Scratch::new();
    fs::write(scratch.path("set.torrent"), "precious").unwrap();
    let (_, err) = scratch.fails("create set -o set.torrent", 1);
    assert!(err.contains("--force"), "{err}");
    assert_eq!(fs::read(scratch.path("set.torrent")).unwrap(), b"precious");
    scratch.succeeds("create set -o set.torrent --force");
    scratch.succeeds("verify set.torrent .");
    let (_, err) = scratch.fails("create set -o set/a/x.torrent", 1);
    assert!(err.contains("inside the content"), "{err}");
    assert_eq!(scratch.0.names(), ["set", "set.torrent"]);
}

#[test]
fn all_bad_options_are_named_at_once() {
    let scratch = Scratch::new();
    let line = "create set -o s.torrent --tracker ftp://a --web-seed nowhere --piece-length 17KB";
    let (_, err) = scratch.fails(line, 2);
    for expected in ["ftp://a", "nowhere", "17kB", "power of two"] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    for line in ["create set -o s.torrent --piece-length 8KiB", "show"] {
        scratch.fails(line, 2);
    }
    scratch.fails("create nothing -o s.torrent", 1);
    assert_eq!(scratch.0.names(), ["set"]);
}

#[test]
fn whole_content_is_verified_where_it_is_and_where_it_lies_in() {
    let scratch = Scratch::new();
    scratch.create_set();
    scratch.succeeds("create set/z.bin -o z.torrent");
    for line in [
        "verify set.torrent .",
        "verify set.torrent set",
        "verify z.torrent set",
        "verify z.torrent set/z.bin",
    ] {
        let out = scratch.succeeds(line);
        assert!(out.contains("is complete"), "{line}: {out}");
    }
}

#[test]
fn one_damaged_byte_names_its_piece_and_file() {
    let scratch = Scratch::new();
    scratch.create_set();
    scratch.flip("set/a/one.bin", 20_000);
    let (out, err) = scratch.fails("verify set.torrent .", 1);
    assert_eq!(
        out, "damaged pieces: 1\na/one.bin: damaged in pieces 1\n",
        "{err}"
    );
    assert!(err.contains("1 of 5 pieces"), "{err}");
    scratch.flip("set/a/one.bin", 20_000);
    scratch.flip("set/a-b", 0);
    let (out, _) = scratch.fails("verify set.torrent .", 1);
    assert_eq!(
        out,
        "damaged pieces: 0\n\
         a-b: in doubt, shares failing pieces 0 with other files\n\
         a/one.bin: in doubt, shares failing pieces 0 with other files\n"
    );
}

#[test]
fn missing_and_wrongly_long_files_are_named() {
    let scratch = Scratch::new();
    scratch.create_set();
    fs::remove_file(scratch.path("set/a/one.bin")).unwrap();
    fs::remove_file(scratch.path("set/a/two")).unwrap();
    let (out, _) = scratch.fails("verify set.torrent .", 1);
    assert_eq!(
        out,
        "missing pieces: 0-2\n\
         a-b: in doubt, shares failing pieces 0 with other files\n\
         a/one.bin: missing\n\
         a/two: missing\n\
         z.bin: in doubt, shares failing pieces 2 with other files\n"
    );
    let scratch = Scratch::new();
    scratch.create_set();
    fs::write(scratch.path("set/a/two"), "x").unwrap();
    let z = scratch.path("set/z.bin");
    let cut = fs::read(&z).unwrap()[..20_000].to_vec();
    fs::write(&z, cut).unwrap();
    let (out, _) = scratch.fails("verify set.torrent .", 1);
    assert_eq!(
        out,
        "missing pieces: 3-4\n\
         a/two: wrong length, 1 bytes, expected 0\n\
         z.bin: wrong length, 20000 bytes, expected 25600; damaged in pieces 3-4\n"
    );
    let (_, err) = scratch.fails("verify set.torrent nowhere", 1);
    assert!(err.contains("nowhere"), "{err}");
}

#[test]
fn hostile_torrents_are_refused_with_the_reason() {
    let scratch = Scratch::new();
    let hash = "h".repeat(20);
    let info = |files: &str, rest: &str| {
        format!("d4:infod5:filesl{files}e4:name1:d{rest}6:pieces20:{hash}ee")
    };
    let pieces = "12:piece lengthi16384e";
    let file = |path: &str| format!("d6:lengthi1e4:pathl{path}ee");
    let pair = |one: &str, other: &str| info(&[file(one), file(other)].concat(), pieces);
    let cases = [
        (info(&file("2:..6:passwd"), pieces), "unsafe path"),
        (info(&file("11:/etc/passwd"), pieces), "unsafe path"),
        (info(&file("1:a0:"), pieces), "unsafe path"),
        (info(&file("3:a\0b"), pieces), "unsafe path"),
        (info(&file(""), pieces), "path of 0 bytes"),
        (pair("1:a", "1:a"), "twice"),
        (pair("1:a1:b", "1:a"), "both a file and a directory"),
        (info("", pieces), "length is 0"),
        (info(&file("1:a"), "12:piece lengthi0e"), "piece length 0"),
        (info(&file("1:a"), &pieces.repeat(2)), "repeated"),
        (
            info(&file("1:a"), pieces).replace("i1e", "i9223372036854775807e"),
            "pieces",
        ),
        (
            info(&file("1:a"), pieces).replace("4:name1:d", "4:name2:.."),
            "name",
        ),
        ("not a torrent".to_owned(), "not a usable .torrent"),
    ];
    for (bytes, reason) in cases {
        fs::write(scratch.path("hostile.torrent"), &bytes).unwrap();
        for line in ["show hostile.torrent", "verify hostile.torrent ."] {
            let (out, err) = scratch.fails(line, 1);
            assert!(err.contains(reason) && out.is_empty(), "{bytes:?}: {err}");
        }
    }
}

#[test]
fn damaged_content_is_named_and_not_seeded() {
    let scratch = Scratch::new();
    scratch.create_set();
    scratch.flip("set/z.bin", 20_000);
    let (out, err) = scratch.fails("seed set.torrent . --peer-listen 127.0.0.1:0", 1);
    assert_eq!(out, "damaged pieces: 3\nz.bin: damaged in pieces 3\n");
    assert!(err.contains("nothing is seeded"), "{err}");
}

#[test]
fn all_bad_trackers_are_named_before_anything_is_compared() {
    let scratch = Scratch::new();
    scratch.create_set();
    let line = "seed set.torrent nowhere --tracker ftp://a --tracker http://b/announce,c";
    let (_, err) = scratch.fails(line, 2);
    assert!(err.contains("ftp://a") && err.contains("\"c\""), "{err}");
}

/// A seeder of the set, and a magnet link that names it.
fn seeding(scratch: &Scratch) -> (Daemon, String) {
    let line = ["torrent", "seed", "set.torrent", ".", "--peer-listen"];
    let mut command = scratch.0.command(&line);
    command.arg("127.0.0.1:0");
    let seeder = Daemon::start(command, "seeding set on");
    let mut words = seeder.ready_line().split([' ', ',']);
    let address = words.find_map(|word| word.strip_prefix("127.0.0.1:"));
    let port = address.unwrap().trim_end_matches(':');
    let magnet = magnet(scratch, port);
    (seeder, magnet)
}

fn magnet(scratch: &Scratch, port: &str) -> String {
    let shown = scratch.succeeds("show set.torrent --json");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let magnet = shown["magnet"].as_str().unwrap();
    format!("{magnet}&x.pe=127.0.0.1:{port}")
}

#[test]
fn a_few_files_of_a_torrent_are_got_by_globs() {
    let scratch = Scratch::new();
    scratch.create_set();
    let (_seeder, magnet) = seeding(&scratch);
    let get = |out, more: &[&str]| {
        let own = [magnet.as_str(), "-o", out, "--json"];
        scratch.0.get(&[&own, more].concat())
    };
    let got = get(
        "some",
        &[
            "--include",
            "a/*",
            "--include",
            "*.bin",
            "--exclude",
            "one*",
        ],
    );
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(got.event("completed")["bytes"], 25_600);
    assert_eq!(scratch.0.names_in("some"), ["a", "z.bin"]);
    assert_eq!(scratch.0.names_in("some/a"), ["two"]);
    assert_eq!(scratch.0.read("some/z.bin"), scratch.0.read("set/z.bin"));
    let got = get("none", &["--include", "*.txt"]);
    assert_eq!(got.code, 1, "{got:?}");
    let names = "a-b, a/one.bin, a/two, z.bin";
    assert!(
        got.err.contains(names) && got.err.contains("--include"),
        "{got:?}"
    );
    assert!(!scratch.0.exists("none"));
}

#[test]
fn a_torrent_is_seeded_until_so_many_times_of_it_were_sent() {
    let scratch = Scratch::new();
    scratch.create_set();
    let (mut seeder, link) = seeding(&scratch);
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let listen = format!("127.0.0.1:{port}");
    let ratio = ["--seed-ratio", "1", "--peer-listen", &listen];
    let mut first = scratch
        .0
        .start(&[&[link.as_str(), "-o", "one", "--json"], &ratio[..]].concat());
    first.wait_for("completed", |_| true);
    seeder.kill();
    // No other peer has it any more.
    let got = scratch.0.get(&[&magnet(&scratch, &port), "-o", "other"]);
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(first.exit_code(), 0);
    assert_eq!(scratch.0.read("other/z.bin"), scratch.0.read("set/z.bin"));
}
