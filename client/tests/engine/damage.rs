//! Disks that give back other bytes than they were given, and say nothing.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_client::{ReadError, SwarmHandle};
use flotilla_cluster::TicketSigner;
use futures_util::StreamExt as _;

use super::hosts::{DEADLINE, Host, Layer, completed, join, origin, publish};
use super::read_all;

fn data_of(dir: &Path) -> PathBuf {
    let mut layers = std::fs::read_dir(dir.join("layers")).unwrap();
    layers.next().unwrap().unwrap().path().join("data")
}

/// Turns one byte of each of these offsets, and leaves the file's times alone.
fn rot(dir: &Path, offsets: &[u64]) {
    let path = data_of(dir);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    for offset in offsets {
        let mut byte = [0];
        file.read_exact_at(&mut byte, *offset).unwrap();
        file.write_all_at(&[!byte[0]], *offset).unwrap();
    }
    file.set_modified(written).unwrap();
}

/// Returns once nothing uses the layer: from then on the disk is read.
async fn unused(handle: &SwarmHandle) {
    let unused = async {
        while handle.layer().is_leased() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, unused).await.unwrap();
}

/// What a reader gets before it is sent to the source; everything is right or not given.
async fn read_what_comes(handle: &SwarmHandle, layer: &Layer) -> usize {
    let mut reader = handle.read(0..layer.bytes.len() as u64);
    let mut position = 0;
    while let Some(part) = tokio::time::timeout(DEADLINE, reader.next()).await.unwrap() {
        match part {
            Ok(part) => {
                assert_eq!(part, layer.bytes.slice(position..position + part.len()));
                position += part.len();
            }
            Err(ReadError::Stalled(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    position
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_rots_on_a_nodes_disk_does_not_leave_it_and_its_piece_comes_again() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(3 << 20);
    let all = 0..layer.geometry.piece_count();
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    publish(&origin, &layer, all.clone(), &[&handle]).await;
    origin.seal(layer.sha256.clone()).await;
    handle.sealed(layer.sha256.clone()).await;
    completed(&handle).await;
    unused(&handle).await;

    let piece = u64::from(layer.geometry.piece_length());
    rot(node.dir.path(), &[4 * piece + 7]);
    assert_eq!(read_what_comes(&handle, &layer).await as u64, 4 * piece);
    assert!(!handle.status().complete && handle.layer().sealed().is_none());

    // The rest of the layer is still here: one piece is fetched.
    let before = handle.counters().received.load(super::Ordering::Relaxed);
    handle.add_peers(vec![supernode.engine.listen_addr()]).await;
    completed(&handle).await;
    assert_eq!(
        read_all(&handle, 0..layer.bytes.len() as u64).await,
        layer.bytes
    );
    let received = handle.counters().received.load(super::Ordering::Relaxed) - before;
    assert_eq!(received, piece);
    // Also for the next run.
    let dir = node.stop().await;
    assert_eq!(std::fs::read(data_of(dir.path())).unwrap(), layer.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rotted_at_an_earlier_run_is_found_when_it_is_read() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(3 << 20);
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[&handle]).await;
    origin.seal(layer.sha256.clone()).await;
    handle.sealed(layer.sha256.clone()).await;
    completed(&handle).await;
    drop(handle);
    let dir = node.stop().await;
    rot(dir.path(), &[1, 1 << 20]);

    let node = Host::restart(&signer, dir, None).await;
    let handle = join(&node, &signer, &layer, &[]).await;
    assert_eq!(read_what_comes(&handle, &layer).await, 0);
    // As announces do.
    let announces = async {
        while !handle.status().complete {
            let addr = supernode.engine.listen_addr();
            handle.add_peers(vec![addr]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, announces).await.unwrap();
    assert_eq!(read_all(&handle, 0..3 << 20).await, layer.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_disk_rots_takes_the_piece_back_from_a_node() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(3 << 20);
    let all = 0..layer.geometry.piece_count();
    let (supernode, first) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&first, &signer, &layer, &[&supernode]).await;
    publish(&origin, &layer, all.clone(), &[&handle]).await;
    while handle.status().held < all.end {
        let held = handle.status().held;
        let mut status = handle.watch();
        let more = status.wait_for(|status| status.held > held);
        tokio::time::timeout(DEADLINE, more).await.unwrap().unwrap();
    }
    origin.seal(layer.sha256.clone()).await;
    completed(origin.handle()).await;
    unused(origin.handle()).await;
    rot(supernode.dir.path(), &[5, 2 << 20]);
    let addr = first.engine.listen_addr();
    for _ in 0..2 {
        read_what_comes(origin.handle(), &layer).await;
        origin.handle().add_peers(vec![addr]).await;
        completed(origin.handle()).await;
    }
    assert_eq!(read_all(origin.handle(), 0..3 << 20).await, layer.bytes);

    let second = Host::start(&signer).await;
    let handle = join(&second, &signer, &layer, &[&supernode]).await;
    let hashes = origin.handle().hashes_from(0);
    handle.publish_hashes(0, hashes).await.unwrap();
    let read = tokio::time::timeout(DEADLINE, read_all(&handle, 0..3 << 20));
    assert_eq!(read.await.unwrap(), layer.bytes);
}
