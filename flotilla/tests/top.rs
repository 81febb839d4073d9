//! `flotilla top` in a real terminal, at a real supernode.

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

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use setup::fake_source::{FakeSource, content, served};
use setup::{Background, Daemon, JOIN_TOKEN, Pane, Place};

/// `flotilla top` with its process id in the file `pid`; the shell prints its exit code.
fn top(place: &Place, supernode: &str) -> String {
    let program = env!("CARGO_BIN_EXE_flotilla");
    let pid = place.path("pid");
    format!(
        "FLOTILLA_JOIN_TOKEN={JOIN_TOKEN} sh -c 'echo $$ > {}; exec {program} top --supernode {supernode}'; echo code $?",
        pid.display()
    )
}

fn assert_restored(pane: &Pane, place: &Place, before: &str) {
    assert_eq!(pane.modes(), (false, true), "alternate screen, cursor");
    assert_eq!(pane.settings(&place.path("settings")), before);
}

/// A swarm with one node, which seeds.
fn swarm(place: &Place, supernode: &Daemon) -> (FakeSource, Background) {
    let bytes = content(3_000_000, 1);
    let source = FakeSource::start(move |asked| served(asked, &bytes, "\"1\""));
    let url = source.url("image.bin");
    let supernodes = ["--supernode", supernode.url(), "--no-fallback"];
    let get = ["get", &url, "-o", "f", "--seed-for", "300s", "--quiet"];
    let mut get = place.command(&[&get[..], &supernodes[..]].concat());
    let get = Background(get.stdout(Stdio::null()).spawn().unwrap());
    (source, get)
}

#[test]
fn keys_lead_through_what_the_supernode_tells_and_the_terminal_is_as_before() {
    let place = Place::new();
    let supernode = place.daemon("supernode", Path::new("s"), &[]);
    let (_source, _get) = swarm(&place, &supernode);
    let pane = Pane::open(place.dir());
    let before = pane.settings(&place.path("settings"));
    pane.enter(&top(&place, supernode.url()));
    let row = |screen: &str, word: &str| -> Option<String> {
        let row = screen.lines().find(|line| line.contains(word));
        row.map(ToOwned::to_owned)
    };
    let screen = pane.wait_for(|screen| {
        let is_whole = |row: String| row.contains("100.0 %") && row.contains("complete");
        row(screen, "/image.bin").is_some_and(is_whole)
    });
    assert!(screen.contains("nodes 1 (0 silent)  layers 1 "), "{screen}");
    assert!(
        row(&screen, "/image.bin").unwrap().contains("2.86 MiB"),
        "{screen}"
    );
    assert_eq!(pane.modes(), (true, false));

    pane.press(&["Tab"]);
    pane.wait_for(|screen| screen.contains("by down") && row(screen, "ago").is_some());
    pane.press(&["1", "/"]);
    pane.press(&["-l", "nothing like it"]);
    pane.wait_for(|screen| screen.contains(" 0, page 1 of 1") && !screen.contains("image.bin"));
    pane.press(&["Escape"]);
    pane.wait_for(|screen| screen.contains("/image.bin"));
    pane.press(&["s", "r"]);
    pane.wait_for(|screen| screen.contains("by time-left, ascending"));

    pane.press(&["q"]);
    pane.wait_for(|screen| screen.contains("code 0"));
    assert_restored(&pane, &place, &before);
}

#[test]
fn a_supernode_that_hangs_is_said_and_holds_no_key_up() {
    let place = Place::new();
    let supernode = place.daemon("supernode", Path::new("s"), &[]);
    let pane = Pane::open(place.dir());
    pane.enter(&top(&place, supernode.url()));
    pane.wait_for(|screen| screen.contains("version "));

    supernode.signal(Signal::STOP);
    pane.wait_for(|screen| screen.contains("no answer for"));
    // It still hangs while these are taken.
    pane.press(&["2", "/"]);
    pane.press(&["-l", "abc"]);
    pane.wait_for(|screen| screen.contains("/abc_") && screen.contains("no answer for"));
    supernode.signal(Signal::CONT);
    pane.wait_for(|screen| !screen.contains("no answer for") && screen.contains("page 1 of 1"));

    supernode.signal(Signal::STOP);
    pane.wait_for(|screen| screen.contains("no answer for"));
    pane.press(&["C-c"]);
    pane.wait_for(|screen| screen.contains("code 0"));
}

#[test]
fn sigterm_leaves_the_terminal_as_it_was() {
    let place = Place::new();
    let supernode = place.daemon("supernode", Path::new("s"), &[]);
    let pane = Pane::open(place.dir());
    let before = pane.settings(&place.path("settings"));
    pane.enter(&top(&place, supernode.url()));
    pane.wait_for(|screen| screen.contains("version "));
    let pid = String::from_utf8(place.read("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    pane.wait_for(|screen| screen.contains("code 0"));
    assert_restored(&pane, &place, &before);
}

#[test]
fn without_a_terminal_it_names_what_needs_none() {
    let place = Place::new();
    let outcome = place.run(&["top", "--supernode", "http://127.0.0.1:1"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("`flotilla status`"), "{outcome:?}");
    let outcome = place.run(&[
        "top",
        "--supernode",
        "http://127.0.0.1:1",
        "--interval",
        "1ms",
    ]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("--interval 1ms"), "{outcome:?}");
}
