use tokio_util::sync::CancellationToken;

use super::*;

const PIECE: usize = 1 << 14;

fn torrent(files: &[(&[&str], u64)]) -> (Arc<Metainfo>, Vec<u8>) {
    let length: u64 = files.iter().map(|(_, length)| length).sum();
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7 / 3) as u8).collect();
    let geometry = Geometry::new(length, PIECE as u32).unwrap();
    let files = files.iter().map(|(path, length)| {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        TorrentFile::new(path, *length).unwrap()
    });
    let hashes = bytes.chunks(PIECE).map(PieceHash::of).collect();
    let torrent = Metainfo::of_directory("t", files.collect(), geometry, hashes, false);
    (Arc::new(torrent.unwrap()), bytes)
}

fn arriving(torrent: &Arc<Metainfo>, work: &Path) -> io::Result<TorrentStorage> {
    let stop = &CancellationToken::new();
    let advanced = &|_| ();
    let selection = FileSelection::all(torrent);
    let watch = Watch { advanced, stop };
    TorrentStorage::arriving(Arc::clone(torrent), selection, work, watch)
}

fn write(storage: &TorrentStorage, bytes: &[u8], pieces: std::ops::Range<u32>) {
    for piece in storage.geometry().pieces_in(pieces) {
        let range = storage.geometry().piece_range(piece);
        let data = &bytes[range.start as usize..range.end as usize];
        let data = PieceData::from(Bytes::copy_from_slice(data));
        storage.write_piece(piece, &data).unwrap();
    }
    storage.sync().unwrap();
}

#[test]
fn pieces_span_files_and_the_whole_appears_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (torrent, bytes) = torrent(&[(&["a", "b"], 20_000), (&["empty"], 0), (&["c"], 30_000)]);
    let (work, output) = (scratch.path().join("work"), scratch.path().join("out"));
    let storage = arriving(&torrent, &work).unwrap();
    write(&storage, &bytes, 0..torrent.geometry().piece_count());
    publish(&work, &output).unwrap();
    assert_eq!(fs::read(output.join("a/b")).unwrap(), &bytes[..20_000]);
    assert_eq!(fs::read(output.join("c")).unwrap(), &bytes[20_000..]);
    assert_eq!(fs::read(output.join("empty")).unwrap(), b"");
    // It is still seeded from where it is now.
    assert_eq!(storage.read(0, bytes.len()).unwrap(), bytes);
    let whole = TorrentStorage::whole(torrent, &output).unwrap();
    assert_eq!(whole.read(19_000, 2000).unwrap(), &bytes[19_000..21_000]);
}

#[test]
fn a_later_run_has_the_recorded_pieces_that_still_match() {
    let scratch = tempfile::tempdir().unwrap();
    let (torrent, bytes) = torrent(&[(&["a"], 40_000), (&["b"], 60_000)]);
    let storage = arriving(&torrent, scratch.path()).unwrap();
    write(&storage, &bytes, 1..5);
    drop(storage);
    let file = File::options()
        .write(true)
        .open(scratch.path().join("content/b"))
        .unwrap();
    // In piece 3.
    file.write_all_at(b"!!!", 3 * PIECE as u64 + 5 - 40_000)
        .unwrap();
    let held = arriving(&torrent, scratch.path()).unwrap().held();
    let held: Vec<_> = held.iter_set().map(PieceIndex::get).collect();
    assert_eq!(held, [1, 2, 4]);
}

#[test]
fn files_that_are_not_selected_are_not_made_and_what_they_share_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let (torrent, bytes) = torrent(&[(&["a"], 40_000), (&["d", "b"], 20_000), (&["c"], 9000)]);
    let (work, output) = (scratch.path().join("work"), scratch.path().join("out"));
    let open = || {
        let filter = crate::PathFilter {
            include: vec![glob::Pattern::new("b").unwrap()],
            exclude: Vec::new(),
        };
        let selection = FileSelection::new(&torrent, &filter).unwrap();
        let (stop, advanced) = (&CancellationToken::new(), &|_| ());
        let watch = Watch { advanced, stop };
        TorrentStorage::arriving(Arc::clone(&torrent), selection, &work, watch).unwrap()
    };
    let storage = open();
    write(&storage, &bytes, 2..3);
    assert!(!storage.is_complete());
    write(&storage, &bytes, 3..4);
    drop(storage);
    let storage = open();
    assert!(storage.is_complete() && storage.held().count() == 2);
    assert_eq!(storage.selected_bytes(), 20_000);
    storage.note_published();
    publish(&work, &output).unwrap();
    assert_eq!(
        fs::read(output.join("d/b")).unwrap(),
        &bytes[40_000..60_000]
    );
    assert_eq!(fs::read_dir(&output).unwrap().count(), 1);
    let shared = storage.read(2 * PIECE as u64, 2 * PIECE).unwrap();
    assert_eq!(shared, &bytes[2 * PIECE..4 * PIECE]);
    // What the user takes away does not come back empty.
    storage.note_published();
    fs::remove_file(output.join("d/b")).unwrap();
    assert!(storage.read(2 * PIECE as u64, 2 * PIECE).is_err());
    assert!(!output.join("d/b").exists());
}

#[test]
fn a_symbolic_link_in_the_work_directory_is_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let (torrent, _) = torrent(&[(&["a", "b"], 20_000)]);
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let work = scratch.path().join("work");
    fs::create_dir_all(work.join("content")).unwrap();
    std::os::unix::fs::symlink(&outside, work.join("content/a")).unwrap();
    assert!(arriving(&torrent, &work).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
