use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use flotilla_torrents::tracker_wire::{
    AddressFamily, AnnounceReply, ConnectionId, TransactionId, UdpReply, UdpRequest,
};
use flotilla_torrents::{InfoHash, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash::from_bytes([1; 20]),
        peer_id: PeerId::from_bytes([2; 20]),
        port: 6881,
        ip: None,
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event: None,
        numwant: Some(50),
        compact: true,
        no_peer_id: true,
        key: None,
        ticket: None,
    }
}

fn response(port: u16) -> AnnounceResponse {
    AnnounceResponse {
        interval: 60,
        peers: vec![SocketAddr::new(LOOPBACK, port)],
        ..AnnounceResponse::default()
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A server that gives each connection the answer that `answer` makes of its request line.
async fn http(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    static CRYPTO: Once = Once::new();
    CRYPTO.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let line = head.lines().next().unwrap_or_default();
            let _ = stream.write_all(&answer(line)).await;
        }
    });
    address
}

/// A UDP tracker that makes of each datagram what `answer` says.
async fn udp(
    ip: IpAddr,
    mut answer: impl FnMut(UdpRequest) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            for datagram in answer(UdpRequest::from_bytes(&buffer[..length]).unwrap()) {
                socket.send_to(&datagram, peer).await.unwrap();
            }
        }
    });
    address
}

/// As BEP 15 wants it.
fn well(request: UdpRequest, response: &AnnounceResponse) -> UdpReply {
    match request {
        UdpRequest::Connect(transaction) => UdpReply::Connect(transaction, ConnectionId(7)),
        UdpRequest::Announce(ConnectionId(7), transaction, _) => {
            UdpReply::Announce(transaction, response.clone())
        }
        other => panic!("unexpected {other:?}"),
    }
}

fn tiers(urls: &[&str]) -> TrackerTiers {
    let mut tiers = TrackerTiers::new(
        &urls
            .iter()
            .map(|url| vec![(*url).to_owned()])
            .collect::<Vec<_>>(),
    );
    tiers.udp_wait = Duration::from_millis(100);
    tiers
}

#[tokio::test]
async fn an_http_tracker_is_asked_in_the_words_of_bep_3() {
    let asked = request().to_query();
    let address = http(move |line| {
        assert_eq!(line, format!("GET /announce?passkey=x&{asked} HTTP/1.1"));
        ok(&AnnounceReply::Peers(response(1)).to_bytes())
    });
    let url = format!("http://{}/announce?passkey=x", address.await);
    let answer = tiers(&[&url]).announce(&request()).await.unwrap();
    assert_eq!(answer, response(1));
}

#[tokio::test]
async fn hostile_http_answers_are_refused_with_the_reason() {
    let elsewhere = b"HTTP/1.1 302 Found\r\nlocation: ftp://h/\r\ncontent-length: 0\r\n\r\n";
    let upgraded = b"HTTP/1.1 302 Found\r\nlocation: https://h/\r\ncontent-length: 0\r\n\r\n";
    let circle = b"HTTP/1.1 302 Found\r\nlocation: /announce\r\ncontent-length: 0\r\n\r\n";
    let cases: [(Vec<u8>, &str); 8] = [
        (ok(b"d14:failure reason6:go oute"), "refuses: go out"),
        (ok(b"<html>"), "sent a malformed answer"),
        (ok(&[b'l'; 9000]), "nested deeper"),
        (ok(&vec![b'l'; 70_000]), "more than 65536 bytes"),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "404",
        ),
        (elsewhere.to_vec(), "another scheme"),
        (upgraded.to_vec(), "another scheme"),
        (circle.to_vec(), "too many redirects"),
    ];
    for (answer, reason) in cases {
        let address = http(move |_| answer.clone()).await;
        let url = format!("http://{address}/announce?passkey=secret");
        let error = tiers(&[&url]).announce(&request()).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(reason), "{error} lacks {reason}");
        assert!(error.contains(&format!("http://{address} ")), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_failure_reason_counts_also_with_an_error_status() {
    let address = http(|_| {
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 29\r\n\r\nd14:failure reason8:no trytee"
            .to_vec()
    });
    let url = format!("http://{}/announce", address.await);
    let error = tiers(&[&url]).announce(&request()).await.unwrap_err();
    assert!(matches!(error, TrackerError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_udp_tracker_is_asked_over_either_family() {
    for ip in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let response = AnnounceResponse {
            peers: vec![SocketAddr::new(ip, 9)],
            ..response(0)
        };
        let expected = response.clone();
        let family = AddressFamily::of(ip);
        let address = udp(ip, move |request| {
            vec![well(request, &response).to_bytes(family)]
        });
        let url = format!("udp://{}/announce", address.await);
        let answer = tiers(&[&url]).announce(&request()).await.unwrap();
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_and_a_silent_tracker_given_up() {
    let mut datagrams = 0;
    let address = udp(LOOPBACK, move |request| {
        datagrams += 1;
        if datagrams % 2 == 1 {
            return Vec::new();
        }
        vec![well(request, &response(3)).to_bytes(AddressFamily::V4)]
    });
    let url = format!("udp://{}", address.await);
    let answer = tiers(&[&url]).announce(&request()).await.unwrap();
    assert_eq!(answer, response(3));

    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let silent = udp(LOOPBACK, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    let url = format!("udp://{}", silent.await);
    let error = tiers(&[&url]).announce(&request()).await.unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn answers_to_other_requests_and_from_other_addresses_are_passed_over() {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let stranger = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let forged = |transaction| {
            UdpReply::Error(transaction, "forged".to_owned()).to_bytes(AddressFamily::V4)
        };
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let request = UdpRequest::from_bytes(&buffer[..length]).unwrap();
            let reply = well(request, &response(4));
            let transaction = reply.transaction();
            let sent = stranger.send_to(&forged(transaction), peer).await;
            sent.unwrap();
            let other = TransactionId(transaction.0.wrapping_add(1));
            let reply = reply.to_bytes(AddressFamily::V4);
            for datagram in [vec![0; 3], forged(other), reply] {
                socket.send_to(&datagram, peer).await.unwrap();
            }
        }
    });
    let answer = tiers(&[&url]).announce(&request()).await.unwrap();
    assert_eq!(answer, response(4));
}

#[tokio::test]
async fn a_udp_tracker_that_refuses_or_answers_nonsense_is_quoted() {
    let refusing = udp(LOOPBACK, |request| match request {
        UdpRequest::Announce(_, transaction, _) => {
            vec![UdpReply::Error(transaction, "not here".to_owned()).to_bytes(AddressFamily::V4)]
        }
        other => vec![well(other, &response(0)).to_bytes(AddressFamily::V4)],
    });
    let error = tiers(&[&format!("udp://{}", refusing.await)])
        .announce(&request())
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("refuses: not here"), "{error}");
    let odd = udp(LOOPBACK, |request| match request {
        UdpRequest::Announce(_, transaction, _) => {
            let reply = UdpReply::Announce(transaction, response(0)).to_bytes(AddressFamily::V4);
            vec![[reply, vec![0; 5]].concat()]
        }
        other => vec![well(other, &response(0)).to_bytes(AddressFamily::V4)],
    });
    let error = tiers(&[&format!("udp://{}", odd.await)])
        .announce(&request())
        .await
        .unwrap_err();
    assert!(matches!(error, TrackerError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn the_tracker_that_answers_becomes_the_first_of_its_tier() {
    let address = http(|_| ok(&response(5).to_bytes())).await;
    let (dead, good) = (
        "http://127.0.0.1:1/announce",
        format!("http://{address}/announce"),
    );
    let mut tiers = TrackerTiers::new(&[
        vec![dead.to_owned()],
        vec![dead.to_owned(), dead.to_owned(), good.clone()],
    ]);
    tiers.announce(&request()).await.unwrap();
    assert_eq!(tiers.tiers[1][0].url().as_str(), good);
    assert_eq!(tiers.tiers[1].len(), 3);
}

#[tokio::test]
async fn when_none_answers_each_is_quoted() {
    let refusing = http(|_| ok(b"d14:failure reason2:noe")).await;
    let urls = [
        format!("http://{refusing}/announce"),
        "http://127.0.0.1:1/".to_owned(),
    ];
    let error = tiers(&[&urls[0], &urls[1]]).announce(&request()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("refuses: no;"), "{error}");
    assert!(
        error.contains("http://127.0.0.1:1 does not answer"),
        "{error}"
    );
}

#[tokio::test]
async fn urls_that_cannot_be_asked_are_left_out() {
    let odd = [
        "wss://h/a",
        "udp://h/announce",
        "no url",
        "http://",
        "magnet:?xt=x",
    ];
    let mut none = tiers(&odd);
    assert!(none.is_empty());
    let error = none.announce(&request()).await.unwrap_err();
    assert!(matches!(error, TrackerError::NoTracker));
    let many = vec!["http://h/".to_owned(); 100];
    let capped = TrackerTiers::new(&[many.clone(), many]);
    assert_eq!(
        capped.tiers.iter().map(Vec::len).sum::<usize>(),
        MAX_TRACKERS
    );
}
