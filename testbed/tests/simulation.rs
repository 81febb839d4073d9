//! Whole swarms in virtual time: what the state machine of a swarm promises.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use flotilla_testbed::simulation::{Behaviour, Group, Report, Scenario, plot, run};

fn play(scenario: &Scenario) -> Report {
    let report = run(scenario).unwrap();
    println!("{report}");
    report
}

fn crowd(nodes: usize, mib: f64, mbit: f64, seed: u64) -> Scenario {
    Scenario {
        seed,
        ..Scenario::flash_crowd(nodes, mib, mbit)
    }
}

#[test]
fn twenty_nodes_finish_near_the_bound_while_the_layer_arrives() {
    for seed in 0..3 {
        let report = play(&crowd(20, 64.0, 50.0, seed));
        assert!(report.ratio() < 1.12, "{report}");
        assert!(report.supernode_copies < 1.03, "{report}");
        assert!(report.received < 1.01, "{report}");
    }
}

#[test]
fn twenty_nodes_finish_near_the_bound_when_the_layer_is_cached() {
    for seed in 0..3 {
        let cached = Scenario {
            source_mbit: None,
            ..crowd(20, 64.0, 50.0, seed)
        };
        let report = play(&cached);
        assert!(report.ratio() < 1.1, "{report}");
        assert!(report.supernode_copies < 1.03, "{report}");
    }
}

#[test]
fn slow_links_cost_little_more_than_fast_ones() {
    for (nodes, mbit) in [(5, 10.0), (20, 10.0), (20, 25.0), (40, 10.0)] {
        let slow = Scenario {
            source_mbit: None,
            ..crowd(nodes, 32.0, mbit, 1)
        };
        let report = play(&slow);
        assert!(
            report.ratio() < 1.18,
            "{nodes} nodes at {mbit} Mbit/s: {report}"
        );
        assert!(report.supernode_copies < 1.06, "{report}");
    }
}

#[test]
fn a_round_trip_of_200_milliseconds_costs_a_single_node_little() {
    let far = Scenario {
        latency_ms: 100.0,
        source_mbit: None,
        ..crowd(1, 32.0, 50.0, 1)
    };
    let report = play(&far);
    // A third of a second each for the handshakes, the first piece, and the pipeline that opens.
    assert!(report.ratio() < 1.4, "{report}");
}

#[test]
fn reading_in_order_costs_little() {
    for seed in 0..3 {
        let reading = Scenario {
            read_in_order: true,
            ..crowd(20, 64.0, 50.0, seed)
        };
        let report = play(&reading);
        assert!(report.ratio() < 1.15, "{report}");
    }
}

#[test]
fn a_single_node_gets_the_layer_at_the_speed_of_its_link() {
    let report = play(&crowd(1, 64.0, 50.0, 7));
    assert!(report.ratio() < 1.05, "{report}");
}

#[test]
fn nodes_that_leave_when_they_are_complete_do_not_keep_the_last_from_it() {
    let leavers = Scenario {
        leave_when_complete: true,
        arrival_s: 1.0,
        ..crowd(10, 32.0, 50.0, 7)
    };
    let report = play(&leavers);
    // The last node arrives after nine seconds, and has to wait for nothing but its own link.
    assert!(report.quantile(1.0) < 1.6, "{report}");
}

#[test]
fn a_corrupt_peer_is_shunned_and_the_layer_still_completes() {
    let corrupt = Scenario {
        nodes: vec![
            Group::equal(4, 50.0),
            Group::equal(1, 50.0).behaving(Behaviour::Corrupt),
        ],
        ..crowd(5, 16.0, 50.0, 7)
    };
    let report = play(&corrupt);
    assert!(
        report.shunned.iter().all(|(_, culprit)| *culprit == 5),
        "{:?}",
        report.shunned
    );
    assert!(
        !report.shunned.is_empty(),
        "the corrupt peer was never used: {report}"
    );
    assert!(report.ratio() < 2.0, "{report}");
}

#[test]
fn silent_peers_do_not_stop_the_others() {
    for silent in 1..=3 {
        let scenario = Scenario {
            nodes: vec![
                Group::equal(7, 50.0),
                Group::equal(silent, 50.0).behaving(Behaviour::Silent),
            ],
            ..crowd(7, 16.0, 50.0, 7)
        };
        let report = play(&scenario);
        // What only a silent peer got has to come from the supernode again.
        assert!(
            report.makespan < report.bound * 2.0 + 2.0,
            "{silent} silent: {report}"
        );
    }
}

#[test]
fn peers_that_die_do_not_stop_the_others() {
    let dying = |after| Group {
        dies_after_s: Some(after),
        ..Group::equal(1, 50.0)
    };
    let scenario = Scenario {
        nodes: vec![Group::equal(7, 50.0), dying(0.5), dying(1.0), dying(1.5)],
        ..crowd(10, 16.0, 50.0, 7)
    };
    let report = play(&scenario);
    assert!(report.ratio() < 1.6, "{report}");
}

#[test]
fn a_seed_says_all_that_happens() {
    let first = play(&crowd(8, 8.0, 50.0, 3));
    let again = play(&crowd(8, 8.0, 50.0, 3));
    assert_eq!(first.times, again.times);
    let other = play(&crowd(8, 8.0, 50.0, 4));
    assert_ne!(first.times, other.times);
}

#[test]
fn the_scenarios_of_the_tree_can_be_played_and_plotted() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let read = Scenario::read(&entry.unwrap().path()).unwrap();
        assert!(!read.title.is_empty());
        // Small, so that all of them are played within seconds.
        let mut small = Scenario {
            mib: 2.0,
            piece_kib: Some(64),
            ..read
        };
        for group in &mut small.nodes {
            group.count = group.count.min(8);
        }
        let report = play(&small);
        assert!(plot(&report).ends_with("</svg>\n"));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_wrong_scenario_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "title = \"x\"\nnoodles = 3\n").unwrap();
    let error = Scenario::read(&file).unwrap_err().to_string();
    assert!(
        error.contains("wrong.toml") && error.contains("noodles") && error.contains("line 2"),
        "{error}"
    );
    assert!(
        run(&Scenario {
            nodes: Vec::new(),
            ..Scenario::default()
        })
        .is_err()
    );
    let never = Scenario {
        limit_s: 0.5,
        ..crowd(2, 64.0, 50.0, 1)
    };
    let error = run(&never).unwrap_err().to_string();
    assert!(error.contains("2 nodes are not complete"), "{error}");
}
