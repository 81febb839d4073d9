//! Ten thousand nodes in a thousand swarms.

use std::time::{Duration, Instant};

use flotilla_cluster::messages::node_report::{NodeReport, SwarmPart};
use flotilla_cluster::{Ticket, TicketSigner};
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{InfoHash, PeerId};
use futures_util::{StreamExt as _, stream};

use crate::cluster::Cluster;

const NODES: u32 = 10_000;
const SWARMS: u32 = 1_000;
/// What a viewer may cost.
const MAX_BYTES_PER_SECOND: f64 = 100_000.0;

/// Names that would be something else than text, were they not shown as text.
fn name(number: u32) -> String {
    match number {
        0 => "<img src=x onerror=alert(1)>".to_owned(),
        1 => "\u{202e}right to left".to_owned(),
        2 => "n".repeat(10_000),
        _ => format!("node-{number}"),
    }
}

fn id(number: u32) -> [u8; 20] {
    let mut bytes = [7; 20];
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

async fn announce(cluster: &Cluster, signer: &TicketSigner, number: u32) {
    let (swarm, peer_id) = (
        InfoHash::from_bytes(id(number % SWARMS)),
        PeerId::from_bytes(id(number)),
    );
    let ticket = signer.sign(&Ticket {
        swarm,
        peer_id,
        expires: u64::MAX,
    });
    let request = AnnounceRequest {
        info_hash: swarm,
        peer_id,
        port: 1,
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
        version: "1".to_owned(),
        swarm: SwarmPart {
            is_first: true,
            from_peers: 1000,
            ..SwarmPart::default()
        },
        ..NodeReport::default()
    };
    let url = cluster.url(&format!("/announce?{}", request.to_query()));
    let get = cluster.http.get(url);
    let get = get.header(NodeReport::HEADER, report.to_header().unwrap());
    let answer = get.send().await.unwrap().bytes().await.unwrap();
    assert!(!answer.starts_with(b"d14:failure"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_cluster_is_shown_in_small_answers() {
    let cluster = Cluster::start(3 << 20).await;
    let (signer, cluster) = (
        TicketSigner::from_pkcs8(&cluster.ticket_key()).unwrap(),
        &cluster,
    );
    stream::iter(0..NODES)
        .for_each_concurrent(16, |number| announce(cluster, &signer, number))
        .await;
    let totals = cluster.json("/api/v1/totals").await;
    assert_eq!(totals["nodes"], NODES);
    assert_eq!(
        totals["since_start"]["from_peers_bytes"],
        u64::from(NODES) * 1000
    );
    let nodes = cluster.json("/api/v1/nodes?per_page=100000").await;
    assert_eq!(
        (&nodes["total"], &nodes["per_page"]),
        (&NODES.into(), &200.into())
    );
    let one = cluster.json("/api/v1/nodes?q=node-9999").await;
    assert_eq!(one["items"][0]["name"], "node-9999");
    let long = cluster.json("/api/v1/nodes?q=nnnnnnnnnn").await;
    assert_eq!(long["items"][0]["name"], "n".repeat(255));
    assert_eq!(cluster.json("/api/v1/swarms").await["total"], SWARMS);

    let url = cluster.url("/api/v1/events?view=nodes&per_page=200");
    let mut parts = cluster.http.get(url).send().await.unwrap().bytes_stream();
    let (began, mut bytes, mut events) = (Instant::now(), 0, 0);
    while events < 4 {
        let part = tokio::time::timeout(crate::cluster::DEADLINE, parts.next()).await;
        let part = part.unwrap().unwrap().unwrap();
        bytes += part.len();
        events += usize::from(part.ends_with(b"\n\n"));
    }
    // Three pauses between four events; slower than that only on a machine that is busy.
    let seconds = began.elapsed().max(Duration::from_secs(3)).as_secs_f64();
    let rate = bytes as f64 * 3.0 / 4.0 / seconds;
    assert!(rate < MAX_BYTES_PER_SECOND, "{rate} bytes a second");
}
