//! A few files of a torrent.

use std::fs;
use std::path::Path;
use std::time::Duration;

use flotilla_client::PathFilter;
use flotilla_get::torrent_swarm::{
    DownloadError, DownloadOptions, Output, Phase, Progress, download,
};
use glob::Pattern;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::content::{Content, DEADLINE, by_file, options, run, tls};

const PIECE: u64 = 32 << 10;

fn filter(include: &[&str], exclude: &[&str]) -> PathFilter {
    let patterns = |globs: &[&str]| {
        let patterns = globs.iter().map(|glob| Pattern::new(glob).unwrap());
        patterns.collect::<Vec<_>>()
    };
    PathFilter {
        include: patterns(include),
        exclude: patterns(exclude),
    }
}

/// Everything below `root`, in order.
fn found_in(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.push(name.to_owned());
            if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Bytes of the pieces that the file has bytes in.
fn pieces_of(content: &Content, path: &str) -> u64 {
    let torrent = &content.torrent;
    let mut files = torrent.files().iter();
    let number = files.position(|file| file.path().join("/") == path);
    let geometry = torrent.geometry();
    let pieces = torrent.layout().pieces_of(number.unwrap(), &geometry);
    pieces
        .map(|piece| u64::from(geometry.piece_size(piece)))
        .sum()
}

fn is_file_of(content: &Content, target: &Path, path: &str) -> bool {
    fs::read(target.join(path)).unwrap() == fs::read(content.root().join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_selected_files_appear_and_only_their_pieces_are_asked_for() {
    tls();
    let content = Content::new(1_000_000, false);
    let magnet = content.torrent.magnet().to_string();
    for (source, include, path, tree) in [
        (
            by_file(&content.torrent),
            "sub/b*",
            "sub/b?.bin",
            &["sub", "sub/b?.bin"][..],
        ),
        (
            magnet.parse().unwrap(),
            "c.bin",
            "sub/deep/c.bin",
            &["sub", "sub/deep", "sub/deep/c.bin"],
        ),
    ] {
        let seeding = content.seed(None).await;
        let target = tempfile::tempdir().unwrap();
        let mut options = options(source, target.path(), vec![seeding.listen_addr()]);
        options.filter = filter(&[include], &["a.bin"]);
        let got = run(options).await.unwrap();
        assert_eq!(found_in(&got.path), tree);
        assert!(is_file_of(&content, &got.path, path), "{path} differs");
        let expected = pieces_of(&content, path);
        assert_eq!(got.fetched, expected, "{path}");
        let length = fs::metadata(got.path.join(path)).unwrap().len();
        assert_eq!(got.length, length);
        let uploaded = &seeding.swarm().counters().uploaded;
        let uploaded = uploaded.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(uploaded, expected, "{path}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
        seeding.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_few_files_serves_their_pieces_with_what_others_share() {
    tls();
    let content = Content::new(400_000, false);
    let seeding = content.seed(None).await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let selected = |directory: &Path, peer| {
        let options = options(by_file(&content.torrent), directory, vec![peer]);
        DownloadOptions {
            filter: filter(&["b*"], &[]),
            ..options
        }
    };
    let mut to_seed = selected(first.path(), seeding.listen_addr());
    to_seed.swarm.peer_listen = address;
    to_seed.seed_for = Some(DEADLINE);
    let (progress, mut watched) = watch::channel(Progress::default());
    let stop = CancellationToken::new();
    let seeder = tokio::spawn({
        let stop = stop.clone();
        async move { download(to_seed, &progress, stop).await }
    });
    let seeds = watched.wait_for(|progress| progress.phase == Phase::Seeding);
    let seeds = tokio::time::timeout(DEADLINE, seeds).await;
    let progress = *seeds.unwrap().unwrap();
    assert_eq!((progress.held, progress.length), (5, 5));
    seeding.end().await;
    let got = run(selected(second.path(), address)).await.unwrap();
    assert!(is_file_of(&content, &got.path, "sub/b?.bin"));
    assert_eq!(got.fetched, PIECE);
    // A few files are not taken for the whole.
    let mut everything = selected(second.path(), address);
    everything.filter = PathFilter::default();
    everything.output = Output::At(second.path().join("whole"));
    everything.patience = Some(Duration::from_secs(2));
    let stalled = run(everything).await;
    assert!(matches!(stalled, Err(DownloadError::Stalled { .. })));
    stop.cancel();
    seeder.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_is_interrupted_goes_on_and_leaves_nothing_to_another() {
    tls();
    let content = Content::new(3_000_000, false);
    let seeding = content.seed(Some(1_000_000)).await;
    for (next, path) in [("c.bin", "sub/deep/c.bin"), ("b*", "sub/b?.bin")] {
        let target = tempfile::tempdir().unwrap();
        let selected = |glob| {
            let peers = vec![seeding.listen_addr()];
            let mut options = options(by_file(&content.torrent), target.path(), peers);
            options.filter = filter(&[glob], &[]);
            options
        };
        let (progress, mut watched) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let first = tokio::spawn({
            let (options, stop) = (selected("c.bin"), stop.clone());
            async move { download(options, &progress, stop).await }
        });
        let arrived = watched.wait_for(|progress| progress.held > progress.length / 3);
        let arrived = tokio::time::timeout(DEADLINE, arrived).await;
        let held = arrived.unwrap().unwrap().held;
        stop.cancel();
        assert!(matches!(first.await.unwrap(), Err(DownloadError::Stopped)));
        let got = run(selected(next)).await.unwrap();
        assert!(is_file_of(&content, &got.path, path));
        let files = found_in(&got.path);
        let files = files.iter().filter(|path| path.ends_with(".bin"));
        assert_eq!(files.collect::<Vec<_>>(), [path]);
        let pieces = pieces_of(&content, path);
        let goes_on = got.fetched <= (pieces + PIECE).saturating_sub(held);
        assert_eq!(goes_on, next == "c.bin", "{} of {pieces}", got.fetched);
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_of_nothing_names_what_there_is() {
    tls();
    let content = Content::new(100_000, false);
    let seeding = content.seed(None).await;
    let target = tempfile::tempdir().unwrap();
    let mut options = options(
        by_file(&content.torrent),
        target.path(),
        vec![seeding.listen_addr()],
    );
    options.filter = filter(&["*.bin"], &["sub", "a.*"]);
    let refused = run(options).await.unwrap_err();
    assert!(matches!(refused, DownloadError::NothingSelected(_)));
    let names = "a.bin, empty, sub/b?.bin, sub/deep/c.bin";
    assert!(refused.to_string().contains(names), "{refused}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}
