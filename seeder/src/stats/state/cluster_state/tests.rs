use flotilla_cluster::messages::node_report::ServedBy;
use proptest::prelude::*;

use super::*;
use crate::stats::views::rows::{Rows, SwarmPhase, edges, piece_map, swarm_row};

const SWARM: InfoHash = InfoHash::from_bytes([7; 20]);
const MIB: u64 = 1 << 20;

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 20])
}

fn announced(number: u8, left: u64, from_supernodes: u64, from_peers: u64) -> Announced {
    let part = SwarmPart {
        from_supernodes,
        from_peers,
        ..SwarmPart::default()
    };
    Announced {
        swarm: SWARM,
        peer: peer(number),
        address: SocketAddr::from(([10, 0, 0, number], 65002)),
        left,
        uploaded: 0,
        stopped: false,
        report: Some(NodeReport {
            node: format!("node-{number}"),
            version: "1".to_owned(),
            swarm: part,
            host: HostReport::default(),
        }),
    }
}

/// Four pieces of 1 MiB, of which the supernode has some.
fn own(published: u32) -> OwnSwarm {
    OwnSwarm {
        swarm: SWARM,
        content: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
        geometry: Geometry::new(4 * MIB, 1 << 20).unwrap(),
        published,
        complete: published == 4,
        ingested: u64::from(published) * MIB,
        uploaded: 0,
    }
}

fn held(pieces: &[u32]) -> flotilla_cluster::messages::node_report::HeldPieces {
    let geometry = own(4).geometry;
    let mut held = flotilla_torrents::Bitfield::empty(&geometry);
    for piece in pieces {
        held.set(geometry.piece(*piece).unwrap());
    }
    flotilla_cluster::messages::node_report::HeldPieces::of(&held)
}

fn cluster() -> (ClusterState, Instant) {
    let now = Instant::now();
    (ClusterState::new(now), now)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_moves_between_two_announces_is_counted_once() {
    let (mut cluster, start) = cluster();
    // The node was here before this supernode was: what it says first was counted elsewhere.
    cluster.handle_announce(start, announced(1, MIB, 100, 1000));
    assert_eq!(cluster.history.since_start(), Traffic::default());
    cluster.handle_announce(start + seconds(5), announced(1, MIB, 150, 3000));
    cluster.handle_announce(start + seconds(10), announced(1, 0, 150, 3500));
    let moved = cluster.history.since_start();
    assert_eq!((moved.from_supernode, moved.from_peers), (50, 2500));
    assert_eq!(cluster.swarms[&SWARM].traffic, moved);
    assert_eq!(cluster.nodes[&peer(1)].traffic, moved);
    // The layer was evicted there, and is downloaded again.
    cluster.handle_announce(start + seconds(15), announced(1, MIB, 70, 0));
    assert_eq!(cluster.history.since_start().from_supernode, 120);
}

#[test]
fn the_first_numbers_of_a_member_count_when_they_were_not_heard_before() {
    let (mut cluster, now) = cluster();
    let mut first = announced(1, MIB, 100, 0);
    first.report.as_mut().unwrap().swarm.is_first = true;
    cluster.handle_announce(now, first);
    assert_eq!(cluster.history.since_start().from_supernode, 100);
}

#[test]
fn rates_are_those_between_the_last_two_announces() {
    let (mut cluster, start) = cluster();
    cluster.handle_announce(start, announced(1, 4 * MIB, 0, 0));
    cluster.handle_own(start, OwnTotals::default(), vec![own(4)]);
    cluster.handle_announce(start + seconds(4), announced(1, 2 * MIB, MIB, MIB));
    let row = swarm_row(SWARM, &cluster.swarms[&SWARM]);
    assert_eq!(row.download_bytes_per_second, MIB / 2);
    assert_eq!(row.time_left_seconds, Some(4));
    assert!((row.progress - 0.5).abs() < 1e-9);
    let node = &Rows::of(&cluster, start + seconds(4)).nodes[0];
    assert_eq!(node.download_bytes_per_second, MIB / 2);
    assert_eq!((node.swarms, node.downloads), (1, 1));
    cluster.handle_own(start + seconds(19), OwnTotals::default(), vec![own(4)]);
    let row = swarm_row(SWARM, &cluster.swarms[&SWARM]);
    assert_eq!(row.download_bytes_per_second, 0);
    // It is done, and rests.
    cluster.handle_announce(start + seconds(20), announced(1, 0, 2 * MIB, 2 * MIB));
    cluster.handle_announce(start + seconds(80), announced(1, 0, 2 * MIB, 2 * MIB));
    let row = swarm_row(SWARM, &cluster.swarms[&SWARM]);
    assert_eq!(
        (row.download_bytes_per_second, row.time_left_seconds),
        (0, None)
    );
    assert_eq!((row.seeders, row.leechers), (1, 0));
}

#[test]
fn the_piece_map_counts_the_copies_of_each_piece() {
    let (mut cluster, now) = cluster();
    let with = |number: u8, left: u64, pieces: &[u32]| {
        let mut announced = announced(number, left, 0, 0);
        announced.report.as_mut().unwrap().swarm.held = held(pieces);
        announced
    };
    cluster.handle_announce(now, with(1, 0, &[0, 1, 2, 3]));
    cluster.handle_announce(now, with(2, 2 * MIB, &[0, 3]));
    cluster.handle_own(now, OwnTotals::default(), vec![own(2)]);
    let map = piece_map(&cluster.swarms[&SWARM]);
    assert_eq!((map.copies, map.published), (vec![3, 2, 1, 2], 2));
    let row = swarm_row(SWARM, &cluster.swarms[&SWARM]);
    assert_eq!((row.rarest_copies, row.phase), (1, SwarmPhase::Arriving));
    // The supernode lets it go; the nodes keep it.
    cluster.handle_own(now, OwnTotals::default(), Vec::new());
    let row = swarm_row(SWARM, &cluster.swarms[&SWARM]);
    assert_eq!(
        (row.phase, row.size_bytes),
        (SwarmPhase::Elsewhere, 4 * MIB)
    );
}

#[test]
fn the_sources_that_a_node_names_are_what_serves_it() {
    let (mut cluster, now) = cluster();
    cluster.handle_announce(now, announced(1, 0, 0, 0));
    let mut second = announced(2, MIB, 0, 0);
    second.report.as_mut().unwrap().swarm.served_by = vec![
        ServedBy {
            peer: peer(1),
            bytes: 5,
        },
        ServedBy {
            peer: peer(99),
            bytes: 9,
        },
    ];
    cluster.handle_announce(now, second);
    let edges = edges(&cluster, &cluster.swarms[&SWARM], &peer(99));
    let named: Vec<_> = edges
        .iter()
        .map(|e| (e.from_name.as_str(), e.bytes))
        .collect();
    assert_eq!(named, [("supernode", 9), ("node-1", 5)]);
    assert!(edges.iter().all(|edge| edge.to_name == "node-2"));
}

#[test]
fn why_bytes_came_from_the_registry_is_kept_with_the_swarm() {
    let (mut cluster, start) = cluster();
    let with = |from_registry: u64, reason: &str| {
        let mut announced = announced(1, MIB, 0, 0);
        let part = &mut announced.report.as_mut().unwrap().swarm;
        part.from_registry = from_registry;
        part.registry_reason = Some(reason.to_owned());
        announced
    };
    cluster.handle_announce(start, with(0, "a"));
    for (number, reason) in [(1, "a"), (2, "a"), (3, "b"), (3, "c")] {
        cluster.handle_announce(start + seconds(number), with(number, reason));
    }
    let reasons = &cluster.swarms[&SWARM].registry_reasons;
    assert_eq!((reasons["a"], reasons["b"], reasons.len()), (2, 1, 2));
    for number in 4..100 {
        cluster.handle_announce(start + seconds(number), with(number, &number.to_string()));
    }
    let reasons = &cluster.swarms[&SWARM].registry_reasons;
    assert_eq!(reasons.len(), MAX_REASONS);
    assert_eq!(cluster.history.since_start().bypassed, 99);
}

#[test]
fn who_falls_silent_leaves_its_swarms_and_later_the_list() {
    let (mut cluster, start) = cluster();
    cluster.handle_announce(start, announced(1, MIB, 0, 0));
    cluster.handle_announce(start, announced(2, 0, 0, 0));
    let look = |cluster: &mut ClusterState, after: u64| {
        let now = start + seconds(after);
        cluster.handle_own(now, OwnTotals::default(), Vec::new());
        let silent = cluster.nodes.values().filter(|node| node.is_silent(now));
        let silent = silent.count();
        let members = cluster.swarms.values().map(|swarm| swarm.members.len());
        (members.sum::<usize>(), silent, cluster.nodes.len())
    };
    assert_eq!(look(&mut cluster, 29), (2, 0, 2));
    assert_eq!(look(&mut cluster, 31), (1, 0, 2));
    assert_eq!(look(&mut cluster, 151), (0, 2, 2));
    assert!(cluster.swarms.is_empty() && cluster.members == 0);
    assert_eq!(look(&mut cluster, 3601), (0, 0, 0));
}

#[test]
fn a_node_that_says_goodbye_is_gone_at_once() {
    let (mut cluster, now) = cluster();
    cluster.handle_announce(now, announced(1, MIB, 0, 0));
    let goodbye = Announced {
        stopped: true,
        ..announced(1, MIB, 0, 0)
    };
    cluster.handle_announce(now, goodbye);
    assert!(cluster.swarms[&SWARM].members.is_empty());
    assert_eq!(cluster.members, 0);
}

#[test]
fn an_opening_names_the_swarm_and_a_small_content_counts_with_its_bytes() {
    let (mut cluster, now) = cluster();
    let content: ContentId = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let long = "n".repeat(10_000);
    let opening = |whole| Opening {
        swarm: SWARM,
        naming: Naming {
            name: "reg.test/app",
            images: &[],
            content: &content,
            geometry: None,
        },
        peer: peer(1),
        node: &long,
        whole,
        is_inline: whole.is_some(),
    };
    cluster.handle_opening(now, &opening(None));
    assert_eq!(cluster.swarms[&SWARM].name, "reg.test/app");
    assert_eq!(
        cluster.nodes[&peer(1)].name.len(),
        NodeReport::MAX_TEXT_LENGTH
    );
    cluster.swarms.clear();
    cluster.handle_opening(now, &opening(Some(30)));
    assert!(cluster.swarms.is_empty());
    assert_eq!(
        (
            cluster.small_contents,
            cluster.history.since_start().from_supernode
        ),
        (1, 30)
    );
}

#[test]
fn a_swarm_keeps_the_names_of_few_images_and_no_long_ones() {
    let (mut cluster, _) = cluster();
    let content: ContentId = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let mut name = |images: &[String]| {
        let naming = Naming {
            name: "reg.test/app",
            images,
            content: &content,
            geometry: None,
        };
        cluster.handle_naming(SWARM, &naming);
        cluster.swarms[&SWARM].images.clone()
    };
    let tag = |number: u8| format!("reg.test/app:{number}");
    assert_eq!(name(&[tag(1), tag(2)]), [tag(1), tag(2)]);
    assert_eq!(name(&[]), [tag(1), tag(2)]);
    assert_eq!(name(&[tag(2)]), [tag(2), tag(1)]);
    let many: Vec<String> = (10..30).map(tag).collect();
    assert_eq!(name(&many), many[..8]);
    let after = name(&["n".repeat(10_000)]);
    assert_eq!(after[0].len(), NodeReport::MAX_TEXT_LENGTH);
    assert_eq!(after[1..], many[..7]);
}

proptest! {
    #[test]
    fn no_numbers_that_members_make_up_break_it(
        reports in prop::collection::vec((0_u8..4, any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..40),
    ) {
        let (mut cluster, start) = cluster();
        for (step, (number, left, supernode, peers, stopped)) in (0..).zip(reports) {
            let now = start + seconds(step);
            let made_up = Announced { stopped, ..announced(number, left, supernode, peers) };
            cluster.handle_announce(now, made_up);
            cluster.handle_own(now, OwnTotals::default(), vec![own(3)]);
            let rows = Rows::of(&cluster, now);
            let members: usize = cluster.swarms.values().map(|swarm| swarm.members.len()).sum();
            prop_assert_eq!(cluster.members, members);
            prop_assert!(rows.swarms.iter().all(|row| (0.0..=1.0).contains(&row.progress)));
        }
    }
}
