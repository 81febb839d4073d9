//! A swarm of the cluster that strangers may join, and a stranger that downloads from it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

// What only the tests of the engine need is not used here.
#[allow(dead_code)]
#[path = "../../client/tests/engine/hosts.rs"]
mod hosts;

use std::time::Duration;

use flotilla_client::{OpenToStrangersError, PathFilter};
use flotilla_cluster::TicketSigner;
use flotilla_get::torrent_swarm::{
    DownloadError, DownloadOptions, Output, SwarmOptions, TorrentSource, download,
};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use self::hosts::{DEADLINE, Host, Layer, completed, join, origin, publish};

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_let_in_by_the_info_hash_once_the_swarm_is_opened_to_them() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(2 << 20);
    let supernode = Host::start(&signer).await;
    let origin = origin(&supernode, &signer, &layer).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[]).await;
    let torrent = origin.handle().piece_map().seal("layer", &[], &[]).unwrap();
    let incomplete = supernode
        .engine
        .open_to_strangers(origin.handle(), &torrent);
    assert!(matches!(
        incomplete,
        Err(OpenToStrangersError::Incomplete(_))
    ));
    origin.seal(layer.sha256.clone()).await;
    completed(origin.handle()).await;
    let get = async |patience: Duration| {
        let target = tempfile::tempdir().unwrap();
        let options = DownloadOptions {
            source: TorrentSource::Metainfo(Box::new(torrent.clone())),
            filter: PathFilter::default(),
            output: Output::In(target.path().to_owned()),
            swarm: SwarmOptions {
                peer_listen: "127.0.0.1:0".parse().unwrap(),
                peers: vec![supernode.engine.listen_addr()],
                ..SwarmOptions::default()
            },
            patience: Some(patience),
            seed_for: None,
            seed_ratio: None,
        };
        let progress = Default::default();
        let got = download(options, &progress, CancellationToken::new()).await?;
        Ok::<_, DownloadError>(std::fs::read(got.path).unwrap())
    };
    let closed = get(Duration::from_secs(1)).await;
    assert!(matches!(closed, Err(DownloadError::Stalled { .. })));
    supernode
        .engine
        .open_to_strangers(origin.handle(), &torrent)
        .unwrap();
    assert!(get(DEADLINE).await.unwrap() == layer.bytes);
    // By the swarm's own name no peer gets in without a ticket, as before.
    let (forger, _) = TicketSigner::generate().unwrap();
    let node = Host::start(&forger).await;
    let handle = join(&node, &forger, &layer, &[&supernode]).await;
    assert!(matches!(handle.read(0..1).next().await, Some(Err(_))));
    // Who has a ticket gets the layer beside them.
    let node = Host::start(&signer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    handle
        .publish_hashes(0, origin.handle().hashes_from(0))
        .await
        .unwrap();
    handle.sealed(layer.sha256.clone()).await;
    completed(&handle).await;
}
