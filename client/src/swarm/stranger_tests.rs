//! What strangers may do that our own nodes do not.

use std::time::Instant;

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Bitfield, Geometry};

use super::{PeerKey, PeerTraits, Role, Swarm, SwarmConfig, Transmit};

const PEER: PeerKey = PeerKey(1);
const BLOCK: u32 = 16 * 1024;

fn swarm(role: Role, whole: bool) -> (Swarm, Instant) {
    let geometry = Geometry::new(1 << 20, 1 << 18).unwrap();
    let held = if whole {
        Bitfield::full(&geometry)
    } else {
        Bitfield::empty(&geometry)
    };
    let now = Instant::now();
    let mut swarm = Swarm::new(SwarmConfig::default(), role, geometry, held, 7, now);
    swarm.handle_hashes_known(now, geometry.piece_count());
    (swarm, now)
}

fn sent(swarm: &mut Swarm, now: Instant) -> Vec<Message> {
    let transmits = std::iter::from_fn(|| swarm.poll_transmit(now));
    transmits
        .filter_map(|transmit| match transmit {
            Transmit::Message(_, message) => Some(message),
            Transmit::Block(..) => None,
        })
        .collect()
}

fn request(begin: u32) -> Message {
    Message::Request {
        index: 0,
        begin,
        length: BLOCK,
    }
}

#[test]
fn a_stranger_is_shown_all_that_an_origin_has() {
    let (mut swarm, now) = swarm(Role::Origin, true);
    swarm.handle_connected(now, PEER, PeerTraits::of_stranger(true));
    assert_eq!(sent(&mut swarm, now), [Message::HaveAll, Message::Unchoke]);
    let plain = PeerKey(2);
    swarm.handle_connected(now, plain, PeerTraits::of_stranger(false));
    let bits = Message::Bitfield(vec![0xf0].into());
    assert_eq!(sent(&mut swarm, now), [bits, Message::Unchoke]);
}

#[test]
fn without_the_fast_extension_a_choke_ends_all_requests() {
    let (mut swarm, now) = swarm(Role::Node, false);
    swarm.handle_connected(now, PEER, PeerTraits::of_stranger(false));
    swarm.handle_message(now, PEER, &Message::Bitfield(vec![0xf0].into()));
    swarm.handle_message(now, PEER, &Message::Unchoke);
    let asked = sent(&mut swarm, now);
    let asked = asked
        .iter()
        .filter(|m| matches!(m, Message::Request { .. }));
    let asked = asked.count();
    assert!(asked > 1);
    swarm.handle_message(now, PEER, &Message::Choke);
    assert_eq!(sent(&mut swarm, now), []);
    swarm.handle_message(now, PEER, &Message::Unchoke);
    let again = sent(&mut swarm, now);
    assert_eq!(again.len(), asked, "the same blocks are asked for again");
}

#[test]
fn a_bitfield_counts_whenever_it_comes() {
    let (mut swarm, now) = swarm(Role::Node, false);
    swarm.handle_connected(now, PEER, PeerTraits::of_stranger(true));
    swarm.handle_message(now, PEER, &Message::Unchoke);
    swarm.handle_message(now, PEER, &Message::Have(0));
    sent(&mut swarm, now);
    swarm.handle_message(now, PEER, &Message::Bitfield(vec![0xf0].into()));
    let asked = sent(&mut swarm, now);
    let of_another = |m: &Message| matches!(m, Message::Request { index: 1.., .. });
    assert!(asked.iter().any(of_another), "{asked:?}");
}

#[test]
fn a_cancelled_request_is_rejected_where_that_is_spoken() {
    for fast in [true, false] {
        let (mut swarm, now) = swarm(Role::Node, true);
        swarm.handle_connected(now, PEER, PeerTraits::of_stranger(fast));
        sent(&mut swarm, now);
        for block in 0..8 {
            swarm.handle_message(now, PEER, &request(block * BLOCK));
        }
        swarm.handle_message(
            now,
            PEER,
            &Message::Cancel {
                index: 0,
                begin: 7 * BLOCK,
                length: BLOCK,
            },
        );
        let reject = Message::Reject {
            index: 0,
            begin: 7 * BLOCK,
            length: BLOCK,
        };
        let expected = if fast { vec![reject] } else { Vec::new() };
        assert_eq!(sent(&mut swarm, now), expected);
    }
}

#[test]
fn a_node_is_served_before_the_strangers_that_wait() {
    let (mut swarm, now) = swarm(Role::Node, true);
    let node = PeerKey(100);
    let own = PeerTraits {
        stranger: false,
        ..PeerTraits::of_stranger(true)
    };
    for key in 0..10 {
        swarm.handle_connected(now, PeerKey(key), PeerTraits::of_stranger(true));
        swarm.handle_message(now, PeerKey(key), &request(0));
    }
    let transmits = std::iter::from_fn(|| swarm.poll_transmit(now));
    let served = transmits.filter_map(|transmit| match transmit {
        Transmit::Block(key, block) => Some((key, block)),
        Transmit::Message(..) => None,
    });
    let served: Vec<_> = served.collect();
    assert!(served.len() < 10, "the others wait");
    swarm.handle_connected(now, node, own);
    swarm.handle_message(now, node, &request(0));
    let blocks = std::iter::from_fn(|| swarm.poll_transmit(now));
    assert!(!blocks.into_iter().any(|t| matches!(t, Transmit::Block(..))));
    let (key, block) = served[0];
    swarm.handle_block_sent(now, key, block);
    let transmits = std::iter::from_fn(|| swarm.poll_transmit(now));
    let next = transmits.last();
    assert_eq!(next, Some(Transmit::Block(node, block)));
}

#[test]
fn unwanted_pieces_are_neither_requested_nor_of_interest() {
    let geometry = Geometry::new(1 << 20, 1 << 18).unwrap();
    let mut wanted = Bitfield::empty(&geometry);
    wanted.set(geometry.piece(2).unwrap());
    let (swarm, now) = swarm(Role::Node, false);
    let mut swarm = swarm.wanting(&wanted);
    swarm.handle_connected(now, PEER, PeerTraits::of_stranger(true));
    swarm.handle_message(now, PEER, &Message::Unchoke);
    sent(&mut swarm, now);
    swarm.handle_message(now, PEER, &Message::Have(1));
    assert_eq!(sent(&mut swarm, now), []);
    swarm.handle_message(now, PEER, &Message::Have(2));
    let asked = sent(&mut swarm, now);
    assert_eq!(asked[0], Message::Interested);
    assert!(asked.len() > 1);
    for message in &asked[1..] {
        assert!(
            matches!(message, Message::Request { index: 2, .. }),
            "{message:?}"
        );
    }
    assert!(!swarm.is_complete());
    swarm.handle_piece_stored(now, geometry.piece(2).unwrap());
    assert!(swarm.is_complete() && !swarm.held().is_full());
}
