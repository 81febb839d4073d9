//! Pictures, as a terminal would show them.

use std::time::Duration;

use flotilla_cluster::statistics_client::{List, Node, Rates, Swarm, Traffic};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::*;
use crate::commands::top::event::Answer;
use crate::commands::top::state::tests::{answer, press};

fn picture(state: &State, (width, height): (u16, u16), now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, now)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let symbols = (0..width).map(|x| buffer[(x, y)].symbol());
        symbols.collect::<String>()
    });
    lines.collect()
}

fn totals() -> Totals {
    let chart = Chart {
        slot_seconds: 5,
        from_registry_bytes: vec![0; 3],
        from_supernode_bytes: vec![0, 5 << 20, 9 << 30],
        from_peers_bytes: vec![0, 5 << 20, 9 << 30],
    };
    Totals {
        version: "0.1.0".to_owned(),
        uptime_seconds: 3 * 3600 + 120,
        nodes: 5,
        silent_nodes: 1,
        layers: 12,
        complete_layers: 10,
        leechers: 3,
        now: Rates {
            from_registry_bytes_per_second: 1 << 20,
            from_supernode_bytes_per_second: 2 << 20,
            from_peers_bytes_per_second: 3 << 20,
        },
        last_hour: Traffic {
            saved_bytes: 4 << 30,
            ..Traffic::default()
        },
        chart,
        ..Totals::default()
    }
}

fn swarm(name: &str) -> Swarm {
    Swarm {
        name: name.to_owned(),
        content: format!("sha256:{}", "ab".repeat(32)),
        phase: "arriving".to_owned(),
        size_bytes: 3 << 20,
        seeders: 2,
        leechers: 7,
        progress: 0.5,
        rarest_copies: 4,
        download_bytes_per_second: 1 << 20,
        time_left_seconds: Some(90),
        registry_reason: Some("no piece in time".to_owned()),
        ..Swarm::default()
    }
}

fn with_swarms(swarms: Vec<Swarm>) -> State {
    let mut state = State::new(vec!["http://10.0.0.1:8001/".to_owned()]);
    answer(&mut state, swarms, (1, 1));
    state.totals = Some(totals());
    state
}

#[test]
fn a_wide_terminal_shows_all_that_is_known_of_a_swarm() {
    let state = with_swarms(vec![swarm("reg.test/app")]);
    let lines = picture(&state, (150, 20), Instant::now());
    assert_eq!(
        lines[0].trim_end(),
        "flotilla top  http://10.0.0.1:8001/  version 0.1.0, up 3h2m"
    );
    assert_eq!(
        lines[1].trim_end(),
        "nodes 5 (1 silent)  layers 12 (2 arriving)  downloads 3  saved in the last hour 4.00 GiB"
    );
    assert_eq!(
        lines[2].trim_end(),
        "now: registry 1.00 MiB/s  supernodes 2.00 MiB/s  nodes 3.00 MiB/s"
    );
    assert_eq!(
        lines[3].trim_end(),
        "to nodes, the last 10s: at most 2.00 MiB/s"
    );
    // The slot that is being filled is not shown; the one before is the highest.
    assert!(lines[6].starts_with(" █ "), "{:?}", lines[6]);
    assert_eq!(
        lines[7].trim_end(),
        " 1 swarms  2 nodes   1, page 1 of 1, by rate, descending"
    );
    let words: Vec<&str> = lines[8].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "NAME DIGEST SIZE PHASE SEED LEECH DONE RAREST RATE↓ LEFT FROM REGISTRY"
    );
    let words: Vec<&str> = lines[9].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "reg.test/app abababababab 3.00 MiB arriving 2 7 50.0 % 4 1.00 MiB/s 1m30s no piece in time"
    );
    assert!(lines[19].starts_with("q quit"), "{:?}", lines[19]);
}

#[test]
fn every_terminal_shows_names_and_rates_and_none_is_too_small() {
    let state = with_swarms(vec![swarm("reg.test/app")]);
    let lines = picture(&state, (60, 10), Instant::now());
    assert!(
        lines[5].contains("reg.test/app") && lines[5].contains("1.00 MiB/s"),
        "{lines:#?}"
    );
    for size in [(1, 1), (3, 2), (200, 1), (1, 60), (20, 16)] {
        picture(&state, size, Instant::now());
    }
}

#[test]
fn hostile_names_leave_every_column_where_it_is() {
    let names = [
        "plain",
        "a\u{1b}[2J\u{9b}31m\r\n\t",
        "שלום עולם",
        "\u{202e}dlrow",
        "語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語",
        "👩\u{200d}👩\u{200d}👧\u{fe0f} e\u{301}\u{301}\u{301}",
        &"x".repeat(10_000),
    ];
    let state = with_swarms(names.iter().map(|name| swarm(name)).collect());
    let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
    terminal
        .draw(|frame| draw(frame, &state, Instant::now()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| -> Vec<&str> { (0..120).map(|x| buffer[(x, y)].symbol()).collect() };
    // From the digest on all rows are alike.
    let expected = row(9);
    let digest = expected
        .windows(2)
        .position(|pair| pair == ["a", "b"])
        .unwrap();
    for (y, name) in (9..).zip(names) {
        let cells = row(y);
        assert_eq!(cells[digest - 1..], expected[digest - 1..], "{name:?}");
        let text = cells.concat();
        let harmless = |c: char| !crate::sanitize::controls(c) && c != '\u{200d}';
        assert!(text.chars().all(harmless), "{text:?}");
    }
}

#[test]
fn the_chosen_row_is_marked() {
    let mut state = with_swarms(vec![swarm("a"), swarm("b")]);
    press(&mut state, &[KeyCode::Down]);
    let mut terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
    terminal
        .draw(|frame| draw(frame, &state, Instant::now()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let is_marked = |y| buffer[(0, y)].modifier.contains(Modifier::REVERSED);
    assert_eq!([is_marked(9), is_marked(10)], [false, true]);
}

#[test]
fn nodes_are_shown_with_those_that_fell_silent() {
    let mut state = with_swarms(Vec::new());
    press(&mut state, &[KeyCode::Char('2')]);
    let node = Node {
        name: "web-1".to_owned(),
        address: Some("10.0.0.7:65002".to_owned()),
        version: "0.1.0".to_owned(),
        is_heard: false,
        last_heard_seconds: 125,
        swarms: 3,
        download_bytes_per_second: 1 << 20,
        upload_bytes_per_second: 2 << 20,
        cache_bytes: 5 << 30,
    };
    let list = List {
        total: 41,
        page: 1,
        pages: 41,
        items: vec![node],
    };
    let result = Ok((totals(), Rows::Nodes(list)));
    let query = state.query();
    state.handle_answer(Answer { query, result }, Instant::now());
    let lines = picture(&state, (120, 20), Instant::now());
    assert!(
        lines[7].contains("41, page 1 of 41, by down"),
        "{:?}",
        lines[7]
    );
    let words: Vec<&str> = lines[9].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "web-1 10.0.0.7:65002 0.1.0 3 1.00 MiB/s 2.00 MiB/s 5.00 GiB 2m5s ago silent"
    );
}

#[test]
fn a_supernode_that_is_away_is_said_beside_what_it_told_last() {
    let mut state = with_swarms(vec![swarm("reg.test/app")]);
    let began = Instant::now();
    let result = Err("supernode cannot be reached: \u{1b}[31mrefused".to_owned());
    let query = state.query();
    state.handle_answer(Answer { query, result }, began);
    let lines = picture(&state, (120, 20), began + Duration::from_secs(65));
    assert_eq!(
        lines[19].trim_end(),
        "no answer for 1m5s, trying again: supernode cannot be reached: \\u{1b}[31mrefused"
    );
    assert!(lines[9].contains("reg.test/app"));
}

#[test]
fn a_search_shows_what_is_typed() {
    let mut state = with_swarms(Vec::new());
    press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('x')]);
    let lines = picture(&state, (120, 20), Instant::now());
    assert!(lines[7].contains("/x_"), "{:?}", lines[7]);
}

#[test]
fn as_many_rows_are_asked_for_as_are_shown() {
    let many = (0..60).map(|number| swarm(&format!("swarm-{number}")));
    let state = with_swarms(many.collect());
    for height in [8, 15, 16, 24, 50] {
        let size = Size::new(100, height);
        let lines = picture(&state, (100, height), Instant::now());
        let shown = lines.iter().filter(|line| line.starts_with("swarm-"));
        assert_eq!(shown.count(), usize::from(rows_in(size)));
    }
}
