use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

const TRANSACTION: TransactionId = TransactionId(0x0102_0304);

#[test]
fn the_bytes_are_those_of_bep_15() {
    let connect = UdpRequest::Connect(TRANSACTION);
    let expected = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04";
    assert_eq!(connect.to_bytes(), expected);
    assert_eq!(UdpRequest::from_bytes(expected), Ok(connect));

    let announce = AnnounceRequest {
        info_hash: InfoHash::from_bytes([b'h'; 20]),
        peer_id: PeerId::from_bytes([b'p'; 20]),
        port: 6881,
        ip: None,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: Some(AnnounceEvent::Started),
        numwant: None,
        compact: true,
        no_peer_id: true,
        key: Some("0000000a".to_owned()),
        ticket: None,
    };
    let request = UdpRequest::Announce(ConnectionId(5), TRANSACTION, Box::new(announce));
    let mut expected = b"\0\0\0\0\0\0\0\x05\0\0\0\x01\x01\x02\x03\x04".to_vec();
    expected.extend([b'h'; 20]);
    expected.extend([b'p'; 20]);
    expected.extend(b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
    expected.extend(b"\0\0\0\x02\0\0\0\0\0\0\0\x0a\xff\xff\xff\xff\x1a\xe1");
    assert_eq!(expected.len(), 98);
    assert_eq!(request.to_bytes(), expected);
    assert_eq!(UdpRequest::from_bytes(&expected), Ok(request.clone()));
    // BEP 41: clients append the path of the tracker's URL.
    expected.extend(b"\x02\x09/announce");
    assert_eq!(UdpRequest::from_bytes(&expected), Ok(request));

    let reply = UdpReply::Announce(
        TRANSACTION,
        AnnounceResponse {
            interval: 60,
            min_interval: None,
            complete: 2,
            incomplete: 1,
            peers: vec!["10.0.0.1:258".parse().unwrap()],
        },
    );
    let expected = b"\0\0\0\x01\x01\x02\x03\x04\0\0\0\x3c\0\0\0\x01\0\0\0\x02\x0a\0\0\x01\x01\x02";
    assert_eq!(reply.to_bytes(AddressFamily::V4), expected);
    let read = UdpReply::from_bytes(expected, AddressFamily::V4);
    assert_eq!(read, Ok(reply));
}

#[test]
fn malformed_datagrams_are_refused_with_the_reason() {
    use UdpMessageError as E;
    let request = |bytes: &[u8]| UdpRequest::from_bytes(bytes).unwrap_err();
    assert_eq!(request(b""), E::Truncated(0));
    assert_eq!(request(&[0; 15]), E::Truncated(15));
    assert_eq!(request(&[0; 16]), E::Protocol);
    assert_eq!(request(&[0; MAX_DATAGRAM_BYTES + 1]), E::TooLong(8193));
    assert_eq!(request(b"\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0"), E::Action(4));
    let announce = |length: usize| {
        let mut bytes = vec![0; length];
        bytes[11] = 1;
        bytes
    };
    assert_eq!(request(&announce(97)), E::Truncated(97));
    let mut strange = announce(98);
    strange[83] = 9;
    assert_eq!(request(&strange), E::Event(9));
    let scrape = |hashes: usize| {
        let mut bytes = vec![0; 16 + hashes];
        bytes[11] = 2;
        bytes
    };
    assert_eq!(request(&scrape(0)), E::List(0));
    assert_eq!(request(&scrape(21)), E::List(21));
    assert_eq!(request(&scrape(20 * 75)), E::List(1500));
    let reply = |bytes: &[u8], family| UdpReply::from_bytes(bytes, family).unwrap_err();
    assert_eq!(
        reply(b"\0\0\0\x09\0\0\0\0", AddressFamily::V4),
        E::Action(9)
    );
    let mut cut = b"\0\0\0\x01\0\0\0\0\0\0\0\x3c\0\0\0\x01\0\0\0\x02".to_vec();
    cut.extend([1; 6]);
    assert!(UdpReply::from_bytes(&cut, AddressFamily::V4).is_ok());
    assert_eq!(reply(&cut, AddressFamily::V6), E::List(6));
}

#[test]
fn a_reply_has_peers_of_one_family_and_fits_into_a_frame() {
    let peers = (0..500_u16)
        .flat_map(|port| {
            [
                SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ]
        })
        .collect();
    let response = AnnounceResponse {
        peers,
        ..AnnounceResponse::default()
    };
    for (family, most) in [(AddressFamily::V4, 238), (AddressFamily::V6, 79)] {
        assert_eq!(family.most_peers(), most);
        let bytes = UdpReply::Announce(TRANSACTION, response.clone()).to_bytes(family);
        assert!(bytes.len() <= MAX_REPLY_BYTES);
        let Ok(UdpReply::Announce(_, read)) = UdpReply::from_bytes(&bytes, family) else {
            panic!("no announce reply");
        };
        assert_eq!(read.peers.len(), most);
        let is_of_family = |peer: &SocketAddr| AddressFamily::of(peer.ip()) == family;
        assert!(read.peers.iter().all(is_of_family));
    }
}

fn announces() -> impl Strategy<Value = AnnounceRequest> {
    let event = prop::sample::select(vec![
        None,
        Some(AnnounceEvent::Started),
        Some(AnnounceEvent::Completed),
        Some(AnnounceEvent::Stopped),
    ]);
    let ids = any::<([u8; 20], [u8; 20], u16, Ipv4Addr)>();
    let counts = any::<(u64, u64, u64, u32)>();
    let numwant = prop::option::of(0..=i32::MAX.unsigned_abs());
    (ids, counts, event, numwant).prop_map(|(ids, counts, event, numwant)| AnnounceRequest {
        info_hash: InfoHash::from_bytes(ids.0),
        peer_id: PeerId::from_bytes(ids.1),
        port: ids.2,
        ip: (!ids.3.is_unspecified()).then_some(IpAddr::V4(ids.3)),
        uploaded: counts.0,
        downloaded: counts.1,
        left: counts.2,
        event,
        numwant,
        compact: true,
        no_peer_id: true,
        key: (counts.3 != 0).then(|| format!("{:08x}", counts.3)),
        ticket: None,
    })
}

fn requests() -> impl Strategy<Value = UdpRequest> {
    let hashes = prop::collection::vec(
        any::<[u8; 20]>().prop_map(InfoHash::from_bytes),
        1..=MAX_SCRAPED,
    );
    let ids = || any::<(u64, u32)>().prop_map(|(c, t)| (ConnectionId(c), TransactionId(t)));
    prop_oneof![
        ids().prop_map(|(_, transaction)| UdpRequest::Connect(transaction)),
        (ids(), announces()).prop_map(|((c, t), a)| UdpRequest::Announce(c, t, Box::new(a))),
        (ids(), hashes).prop_map(|((c, t), hashes)| UdpRequest::Scrape(c, t, hashes)),
    ]
}

fn replies() -> impl Strategy<Value = (UdpReply, AddressFamily)> {
    let transaction = || any::<u32>().prop_map(TransactionId);
    let v4 = prop::collection::vec(any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from), 0..50);
    let really_v6 = |ip: &(Ipv6Addr, u16)| ip.0.to_ipv4_mapped().is_none();
    let v6 = any::<(Ipv6Addr, u16)>().prop_filter("mapped", really_v6);
    let v6 = prop::collection::vec(v6.prop_map(SocketAddr::from), 0..50);
    let peers = prop_oneof![
        v4.prop_map(|peers| (peers, AddressFamily::V4)),
        v6.prop_map(|peers| (peers, AddressFamily::V6)),
    ];
    let counts = any::<(u32, u32, u32)>().prop_map(|counts| UdpScrapeCounts {
        seeders: counts.0,
        completed: counts.1,
        leechers: counts.2,
    });
    let announce = (transaction(), any::<(u32, u32, u32)>(), peers);
    let announce = announce.prop_map(|(transaction, counts, (peers, family))| {
        let response = AnnounceResponse {
            interval: counts.0,
            min_interval: None,
            complete: counts.1,
            incomplete: counts.2,
            peers,
        };
        (UdpReply::Announce(transaction, response), family)
    });
    let v4 = |reply: UdpReply| (reply, AddressFamily::V4);
    prop_oneof![
        (transaction(), any::<u64>())
            .prop_map(move |(t, c)| v4(UdpReply::Connect(t, ConnectionId(c)))),
        announce,
        (
            transaction(),
            prop::collection::vec(counts, 0..=MAX_SCRAPED)
        )
            .prop_map(move |(t, counts)| v4(UdpReply::Scrape(t, counts))),
        (transaction(), "\\PC{0,100}").prop_map(move |(t, why)| v4(UdpReply::Error(t, why))),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip(request in requests()) {
        prop_assert_eq!(UdpRequest::from_bytes(&request.to_bytes()), Ok(request));
    }

    #[test]
    fn replies_round_trip((reply, family) in replies()) {
        prop_assert_eq!(UdpReply::from_bytes(&reply.to_bytes(family), family), Ok(reply));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes: Vec<u8>, request in requests(), (reply, family) in replies(),
        at: prop::sample::Index, byte: u8
    ) {
        let _ = UdpRequest::from_bytes(&bytes);
        let _ = UdpReply::from_bytes(&bytes, AddressFamily::V4);
        let _ = UdpReply::from_bytes(&bytes, AddressFamily::V6);
        let mut changed = request.to_bytes();
        let position = at.index(changed.len());
        changed[position] = byte;
        let _ = UdpRequest::from_bytes(&changed);
        let mut changed = reply.to_bytes(family);
        let position = at.index(changed.len());
        changed[position] = byte;
        let _ = UdpReply::from_bytes(&changed, family);
    }
}
