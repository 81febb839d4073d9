//! The statistics page in a real browser.

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

mod browser;
mod setup;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use browser::Script;
use flotilla_cluster::messages::node_report::{HostReport, NodeReport, SupernodeSeen, SwarmPart};
use flotilla_cluster::{Ticket, TicketSigner};
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{InfoHash, PeerId};
use setup::fake_source::{FakeSource, content, served};
use setup::{Background, Place};

fn address_of(url: &str) -> &str {
    url.trim_start_matches("http://")
}

#[test]
fn the_page_shows_a_swarm_while_it_arrives_and_the_numbers_of_the_api() {
    let place = Place::new();
    let bytes = content(20_000_000, 1);
    let source = FakeSource::start(move |asked| served(asked, &bytes, "\"1\""));
    let url = source.url("image.bin");
    let listed = url.trim_end_matches("/image.bin");
    let options = ["--registry-rate", "2MB/s", "--preheat-registry", listed];
    let running = place.daemon("supernode", Path::new("s"), &options);
    let supernode = running.url();
    let mut gets = Vec::new();
    let script = Script::start("arriving.mjs", supernode, &place.path("profile"));
    script.finish(|line| match line {
        "download" => gets.extend((1..=3).map(|number| {
            let out = format!("f{number}");
            #[rustfmt::skip]
            let mut command = place.command(&[
                "get", &url, "-o", &out, "--supernode", supernode, "--no-fallback",
                "--seed-for", "300s", "--quiet",
            ]);
            Background(command.stdout(Stdio::null()).spawn().unwrap())
        })),
        "preheat" => {
            // No node has this name: the job fails, and its cause is shown as text.
            let nodes = "<img src=x onerror=window.broken=1>";
            #[rustfmt::skip]
            let asked = place.run(&["preheat", &url, "--nodes", nodes, "--supernode", supernode]);
            assert_eq!(asked.code, 0, "{asked:?}");
        }
        line => println!("{line}"),
    });
    let status = place.run(&["status", "--supernode", supernode]);
    let (code, out) = (status.code, status.out);
    let traffic = "last hour: 19.07 MiB from registries, ";
    assert!(code == 0 && out.contains(traffic), "{out}");
    assert!(
        out.contains("image.bin") && out.contains("3 complete, 0 downloading"),
        "{out}"
    );
}

const NODES: u32 = 10_000;
const SWARMS: u32 = 1_000;

/// Names that would be something else than text, were they not shown as text.
fn name(number: u32) -> String {
    match number {
        0 => "<img src=x onerror=window.broken=1><script>window.broken=1</script>".to_owned(),
        1 => "\u{202e}gnp.tfel ot thgir".to_owned(),
        2 => "!".repeat(10_000),
        _ => format!("node-{number:05}"),
    }
}

fn id(number: u32) -> [u8; 20] {
    let mut bytes = [7; 20];
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Nodes that announce themselves, and do nothing else.
fn announce(place: &Place, address: &str) {
    let signer = TicketSigner::from_pkcs8(&place.read("s/ticket-key")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for number in 0..NODES {
        let (swarm, peer_id) = (
            InfoHash::from_bytes(id(number % SWARMS)),
            PeerId::from_bytes(id(number)),
        );
        let expires = u64::MAX;
        let ticket = signer.sign(&Ticket {
            swarm,
            peer_id,
            expires,
        });
        let request = AnnounceRequest {
            info_hash: swarm,
            peer_id,
            port: 65002,
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            numwant: Some(0),
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: Some(ticket.to_string()),
        };
        let report = NodeReport {
            node: name(number),
            version: "0.1.0".to_owned(),
            swarm: SwarmPart {
                is_first: true,
                from_peers: u64::from(number),
                ..SwarmPart::default()
            },
            host: HostReport {
                supernodes: vec![SupernodeSeen {
                    url: "javascript:window.broken=1".to_owned(),
                    reachable: true,
                }],
                ..HostReport::default()
            },
        };
        let head = format!(
            "GET /announce?{} HTTP/1.1\r\nhost: {address}\r\n{}: {}\r\n\r\n",
            request.to_query(),
            NodeReport::HEADER,
            report.to_header().unwrap()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reply = Vec::new();
        let mut buffer = [0; 4096];
        // The answer is short, and its end is a bencoded dictionary's.
        while !reply.ends_with(b"e") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the supernode hangs up");
            reply.extend_from_slice(&buffer[..read]);
        }
        assert!(
            !reply.windows(7).any(|part| part == b"failure"),
            "{}",
            String::from_utf8_lossy(&reply)
        );
    }
}

#[test]
fn ten_thousand_nodes_are_searched_sorted_and_paged_whatever_they_are_called() {
    let place = Place::new();
    let running = place.daemon("supernode", Path::new("s"), &[]);
    announce(&place, address_of(running.url()));
    let script = Script::start("many_nodes.mjs", running.url(), &place.path("profile"));
    script.finish(|line| println!("{line}"));
}
