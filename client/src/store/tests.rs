use flotilla_torrents::DigestHasher;

use super::*;

fn create(store: &Store, length: u64) -> Result<Vec<Arc<StoredLayer>>, StoreError> {
    let content = ContentId::blob(&DigestHasher::sha256_of(&length.to_be_bytes()));
    let geometry = Geometry::for_length(length).unwrap();
    let created = store.layer_or_create(&content, geometry, "http://registry");
    created.map(|_| store.take_evicted())
}

#[test]
fn what_cannot_have_room_evicts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    assert!(create(&store, 300).unwrap().is_empty());
    assert!(create(&store, 400).unwrap().is_empty());
    let leased = store.layers().into_iter().next().unwrap();
    let lease = leased.lease();
    for wanted in [1001, 1000 - leased.geometry().length() + 1] {
        let refused = create(&store, wanted);
        assert!(matches!(refused, Err(StoreError::Full { .. })));
        assert_eq!(store.bytes(), 700, "{wanted} bytes");
    }
    drop(lease);
    assert_eq!(create(&store, 1000).unwrap().len(), 2);
}

fn names_in(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn what_leaves_is_gone_whole_whenever_the_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (layers, spool) = (dir.path().join("layers"), dir.path().join("spool"));
    let store = Store::open(dir.path(), 1000).unwrap();
    let evicted = create_whole(&store, &[1; 600]);
    let layer = create_whole(&store, &[2; 700]);
    assert!(!store.has(&evicted) && store.has(&layer));
    assert_eq!((names_in(&layers), names_in(&spool)), (1, 0));
    // A reader that has it open can still read.
    assert_eq!(evicted.read(599, 1).unwrap().as_ref(), [1]);

    store.remove_later(&layer).unwrap();
    assert_eq!(
        (store.bytes(), names_in(&layers), names_in(&spool)),
        (0, 1, 0)
    );
    let anew = create_whole(&store, &[2; 700]);
    store.delete_removed();
    assert_eq!(anew.read(0, 1).unwrap().as_ref(), [2]);
    // Killed before the bytes are deleted.
    store.remove_later(&anew).unwrap();
    drop(store);
    let store = Store::open(dir.path(), 1000).unwrap();
    assert_eq!(
        (store.bytes(), names_in(&layers), names_in(&spool)),
        (0, 0, 0)
    );
}

fn create_whole(store: &Store, bytes: &[u8]) -> Arc<StoredLayer> {
    let sha256 = DigestHasher::sha256_of(bytes);
    let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
    let content = ContentId::blob(&sha256);
    let layer = store
        .layer_or_create(&content, geometry, "http://registry")
        .unwrap();
    store.complete(&layer, bytes, sha256).unwrap();
    layer
}

#[test]
fn a_pinned_layer_stays_also_after_a_restart_until_it_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    let content = create_whole(&store, &[1; 600]).content().clone();
    store.set_pinned(&content, true).unwrap().unwrap();
    let full = |store: &Store| matches!(create(store, 500), Err(StoreError::Full { .. }));
    assert!(full(&store));
    drop(store);

    let store = Store::open(dir.path(), 1000).unwrap();
    assert!(store.layer(&content).unwrap().is_pinned());
    assert!(full(&store));
    assert!(matches!(store.remove(&content), Err(RemoveError::Pinned)));
    store.set_pinned(&content, false).unwrap().unwrap();
    assert_eq!(create(&store, 500).unwrap().len(), 1);
    assert!(store.set_pinned(&content, true).is_none());
}

#[test]
fn the_order_of_eviction_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    let first = create_whole(&store, &[1; 300]);
    let second = create_whole(&store, &[2; 300]);
    // The first one is used last, which nothing but the clock says.
    while now() <= second.last_used() {}
    drop(first.lease());
    let (first, second) = (first.content().clone(), second.content().clone());
    drop(store);

    let store = Store::open(dir.path(), 1000).unwrap();
    let evicted = create(&store, 500).unwrap();
    assert_eq!(evicted.len(), 1);
    assert_eq!(evicted[0].content(), &second);
    assert!(store.layer(&first).is_some());
}

fn now() -> u64 {
    layer_record::now_millis()
}

#[test]
fn a_record_of_an_earlier_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    let layer = create_whole(&store, &[1; 600]);
    let (content, record) = (layer.content().clone(), layer.dir().join("layer.json"));
    drop(store);
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(!text.contains("pinned") && !text.contains("url"), "{text}");
    let store = Store::open(dir.path(), 1000).unwrap();
    let layer = store.layer(&content).unwrap();
    assert!(layer.sealed().is_some() && !layer.is_pinned());
}

#[test]
fn a_complete_layer_whose_bytes_were_cut_off_or_taken_away_is_cleared_away() {
    for cut in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = create_whole(&store, &[1; 600]);
        let (content, data) = (layer.content().clone(), layer.data_path());
        drop(store);
        if cut {
            let data = File::options().write(true).open(&data).unwrap();
            data.set_len(599).unwrap();
        } else {
            std::fs::remove_file(&data).unwrap();
        }
        let store = Store::open(dir.path(), 1000).unwrap();
        assert!(store.layer(&content).is_none());
        assert!(!data.parent().unwrap().exists());
    }
}

#[test]
fn foreign_writes_to_a_complete_layer_are_noticed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    let layer = create_whole(&store, &[1; 600]);
    let (content, geometry) = (layer.content().clone(), layer.geometry());
    // Recorded from now on.
    drop((layer, store));
    let store = Store::open(dir.path(), 1000).unwrap();
    let layer = store.layer(&content).unwrap();
    let data = File::options().write(true).open(layer.data_path()).unwrap();
    let write = |at: u64| {
        data.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at))
            .unwrap();
    };
    assert_eq!(&layer.read(0, 3).unwrap()[..], [1; 3]);
    write(1);
    assert!(layer.read(0, 3).is_err());
    assert!(layer.audit(&|| false).unwrap().is_intact());
    assert!(layer.read(0, 3).is_ok(), "every byte was compared");
    drop((layer, store));

    let store = Store::open(dir.path(), 1000).unwrap();
    assert!(store.layer(&content).unwrap().read(0, 3).is_ok());
    drop(store);
    write(2);
    let store = Store::open(dir.path(), 1000).unwrap();
    assert!(store.layer(&content).unwrap().read(0, 3).is_err());
    let anew = store.layer_or_create(&content, geometry, "http://registry");
    assert!(anew.unwrap().held().is_empty());
}

#[test]
fn damaged_layers_are_no_longer_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1000).unwrap();
    let layer = create_whole(&store, &[1; 600]);
    let _lease = layer.lease();
    assert!(layer.audit(&|| false).unwrap().is_intact());
    std::fs::write(layer.data_path(), [2; 600]).unwrap();
    let audit = layer.audit(&|| false).unwrap();
    assert_eq!(audit.damaged.count(), 1);
    store.quarantine(&layer).unwrap();
    assert!(layer.sealed().is_none() && layer.held().is_empty());
    assert!(store.layer(layer.content()).is_none());
}
