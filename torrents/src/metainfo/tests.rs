//! What a .torrent may be.

use proptest::prelude::*;

use super::*;

/// python3: `b"flotilla" * 5000` in pieces of 16384 bytes, `hashlib.sha1` of each.
const PIECES: &str = "03855d5ef16aa3761c6ea509621b3a728f90574d\
    03855d5ef16aa3761c6ea509621b3a728f90574d20045d4b585588d94604e6c2eeda56f26deb7144";

fn hello_pieces() -> Vec<u8> {
    data_encoding::HEXLOWER.decode(PIECES.as_bytes()).unwrap()
}

/// A .torrent with this info dictionary, `#` standing for the piece hashes.
fn torrent(before: &str, info: &str, after: &str) -> Vec<u8> {
    let (head, tail) = info.split_once('#').unwrap();
    let head = format!("d{before}4:info{head}");
    [
        head.as_bytes(),
        &hello_pieces(),
        tail.as_bytes(),
        after.as_bytes(),
        b"e",
    ]
    .concat()
}

const INFO: &str =
    "d6:lengthi40000e4:name11:hello.bytes12:piece lengthi16384e6:pieces60:#7:privatei1ee";
const ANNOUNCE: &str = "8:announce21:http://tracker.test/a";

fn refused(info: &str) -> MetainfoError {
    Metainfo::from_bytes(&torrent("", info, "")).unwrap_err()
}

#[test]
fn a_torrent_written_by_hand_has_the_info_hash_of_an_independent_sha1() {
    let bytes = torrent(ANNOUNCE, INFO, "");
    let read = Metainfo::from_bytes(&bytes).unwrap();
    // python3: hashlib.sha1 of the info dictionary.
    assert_eq!(
        read.info_hash().to_string(),
        "f565d143626805c89e4fbaad6650bad08321bcbe"
    );
    assert_eq!(
        (read.name(), read.geometry().length()),
        ("hello.bytes", 40_000)
    );
    assert_eq!(read.announce(), [["http://tracker.test/a"]]);
    assert!(read.is_private());
    let content = b"flotilla".repeat(5000);
    let hashes: Vec<_> = content.chunks(16384).map(PieceHash::of).collect();
    assert_eq!(read.pieces(), hashes);
    assert_eq!(read.to_bytes(), bytes);
}

#[test]
fn what_is_made_equals_what_is_read() {
    let read = Metainfo::from_bytes(&torrent(ANNOUNCE, INFO, "")).unwrap();
    let announce = ["http://tracker.test/a".to_owned()];
    let pieces = read.pieces().to_vec();
    let made = Metainfo::new("hello.bytes", read.geometry(), pieces, true, &announce, &[]);
    assert_eq!(made, Ok(read));
}

#[test]
fn keys_that_we_do_not_know_stay_in_the_info_dictionary() {
    let md5 = format!("6:md5sum32:{}", "0".repeat(32));
    let info = INFO.replace("4:name", &format!("{md5}4:name"));
    let info = info.replace("7:privatei1e", "6:source4:here");
    let bytes = torrent("7:comment2:hi", &info, "");
    let read = Metainfo::from_bytes(&bytes).unwrap();
    assert_eq!(
        read.info_hash().to_string(),
        "04f62dc642f1e037546cf3812f05b8e4e8e5c993"
    );
    assert!(!read.is_private());
    assert_eq!(Metainfo::from_bytes(&read.to_bytes()), Ok(read));
}

#[test]
fn trackers_in_tiers_and_web_seeds_are_read() {
    let tiers = "13:announce-listll1:a1:bel1:cee";
    let read = Metainfo::from_bytes(&torrent(&format!("8:announce1:z{tiers}"), INFO, ""));
    assert_eq!(read.unwrap().announce(), [vec!["a", "b"], vec!["c"]]);
    for (list, expected) in [
        ("1:w", &["w"][..]),
        ("l1:w1:xe", &["w", "x"]),
        ("0:", &[]),
        ("le", &[]),
    ] {
        let bytes = torrent("", INFO, &format!("8:url-list{list}"));
        assert_eq!(
            Metainfo::from_bytes(&bytes).unwrap().url_list(),
            expected,
            "{list}"
        );
    }
}

#[test]
fn torrents_that_cannot_be_swarmed_are_refused() {
    use MetainfoError as E;
    let neither = INFO.replace("6:lengthi40000e", "");
    assert_eq!(refused(&neither), E::NoLength);
    let both = INFO.replace("d6:", "d5:filesld6:lengthi1e4:pathl1:aeee6:");
    assert_eq!(refused(&both), E::TwoLengths);
    for piece_length in [0, 1, 16383, 1 << 27] {
        let info = INFO.replace("i16384e", &format!("i{piece_length}e"));
        assert_eq!(
            refused(&info),
            E::Geometry(GeometryError::PieceLength(piece_length))
        );
    }
    assert_eq!(
        refused(&INFO.replace("i40000e", "i0e")),
        E::Geometry(GeometryError::Empty)
    );
    assert!(matches!(
        refused(&INFO.replace("i40000e", "i-1e")),
        E::Bencode(_)
    ));
    for length in [32768, 49153] {
        let info = INFO.replace("40000", &length.to_string());
        assert!(
            matches!(refused(&info), E::Pieces { found: 60, .. }),
            "{length}"
        );
    }
    let cut = INFO.replace("60:#", "61:#x");
    assert_eq!(
        refused(&cut),
        E::Pieces {
            expected: 60,
            found: 61
        }
    );
    assert!(matches!(Metainfo::from_bytes(b"de"), Err(E::Bencode(_))));
}

#[test]
fn names_that_are_no_file_names_are_refused() {
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\0b", &long] {
        let info = INFO.replace("11:hello.bytes", &format!("{}:{name}", name.len()));
        assert!(matches!(refused(&info), MetainfoError::Name(_)), "{name}");
    }
}

/// The info dictionary of a directory with these files, encoded; 40,000 bytes are expected.
fn directory(files: &str) -> String {
    INFO.replace("6:lengthi40000e", &format!("5:filesl{files}e"))
}

fn file(path: &[&str], length: u64) -> String {
    let path: String = path
        .iter()
        .map(|name| format!("{}:{name}", name.len()))
        .collect();
    format!("d6:lengthi{length}e4:pathl{path}ee")
}

#[test]
fn a_directory_written_by_hand_has_the_info_hash_of_an_independent_sha1() {
    let files = [
        file(&["a"], 39_990),
        file(&["b", "c"], 10),
        file(&["b", "d"], 0),
    ];
    let bytes = torrent(ANNOUNCE, &directory(&files.concat()), "");
    let read = Metainfo::from_bytes(&bytes).unwrap();
    // python3: hashlib.sha1 of the info dictionary.
    assert_eq!(
        read.info_hash().to_string(),
        "fbc4371073ab9a2699ba04defa4432e7ab8d45f6"
    );
    let paths: Vec<_> = read.files().iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["a", "b/c", "b/d"]);
    assert_eq!(read.layout().file_range(1), 39_990..40_000);
    assert!(read.is_directory());
    assert_eq!(read.to_bytes(), bytes);
    let made = Metainfo::of_directory(
        read.name(),
        read.files().to_vec(),
        read.geometry(),
        read.pieces().to_vec(),
        true,
    );
    let made = made
        .unwrap()
        .with_sources(read.announce().to_vec(), Vec::new(), None);
    assert_eq!(made, Ok(read));
}

#[test]
fn padding_files_may_share_a_path_and_symlinks_are_refused() {
    let pad = |length| file(&[".pad", "1"], length).replace("d6:", "d4:attr1:p6:");
    let files = [file(&["a"], 30_000), pad(2768), file(&["b"], 7231), pad(1)];
    let bytes = torrent("", &directory(&files.concat()), "");
    let read = Metainfo::from_bytes(&bytes).unwrap();
    let padding: Vec<_> = read.files().iter().map(TorrentFile::is_padding).collect();
    assert_eq!(padding, [false, true, false, true]);
    let link = file(&["a"], 40_000).replace("d6:", "d4:attr1:l6:");
    assert_eq!(
        refused(&directory(&link)),
        MetainfoError::Files(FileListError::Symlink("a".to_owned()))
    );
}

#[test]
fn unsafe_paths_are_refused() {
    let long = "x".repeat(256);
    let bad: [&[&str]; 12] = [
        &[""],
        &["a", ""],
        &["", "a"],
        &["."],
        &[".."],
        &["a", "..", "b"],
        &["/etc/passwd"],
        &["a/b"],
        &["..\\a"],
        &["a\0b"],
        &["/"],
        &[&long],
    ];
    for path in bad {
        let error = refused(&directory(&file(path, 40_000)));
        assert!(
            matches!(error, MetainfoError::Files(FileListError::Unsafe(_))),
            "{path:?}: {error}"
        );
    }
    let deep = vec!["x"; 3000];
    for path in [&[][..], &deep] {
        let error = refused(&directory(&file(path, 40_000)));
        assert!(
            matches!(error, MetainfoError::Files(FileListError::PathLength(_))),
            "{error}"
        );
    }
    let mut bytes = torrent("", &directory(&file(&["abc"], 40_000)), "");
    let at = bytes.windows(5).position(|w| w == b"3:abc").unwrap();
    bytes[at + 3] = 0xff;
    assert!(matches!(
        Metainfo::from_bytes(&bytes),
        Err(MetainfoError::Files(FileListError::Unsafe(_)))
    ));
}

#[test]
fn files_that_collide_or_do_not_add_up_are_refused() {
    use FileListError as E;
    let refused = |files: &[String]| match refused(&directory(&files.concat())) {
        MetainfoError::Files(error) => error,
        other => panic!("{other}"),
    };
    let a = file(&["a"], 20_000);
    assert_eq!(refused(&[a.clone(), a.clone()]), E::Duplicate("a".into()));
    let below = file(&["a", "b", "c"], 20_000);
    let both = E::FileAndDirectory("a".into());
    assert_eq!(refused(&[a.clone(), below.clone()]), both);
    assert_eq!(refused(&[below, a]), both);
    let huge = |name| file(&[name], i64::MAX.unsigned_abs());
    assert!(matches!(
        refused(&[huge("a"), huge("b"), huge("c")]),
        E::Length { .. }
    ));
    let geometry = Geometry::new(40_000, 1 << 14).unwrap();
    let pieces = vec![PieceHash::of(b""); 3];
    let made = |files| Metainfo::of_directory("d", files, geometry, pieces.clone(), false);
    let short = TorrentFile::new(vec!["a".into()], 39_999).unwrap();
    let error = E::Length {
        expected: 40_000,
        found: 39_999,
    };
    assert_eq!(made(vec![short]), Err(error.into()));
    assert_eq!(made(Vec::new()), Err(E::Count(0).into()));
}

#[test]
fn a_negative_length_and_a_key_that_is_there_twice_are_refused() {
    let negative = file(&["a"], 1).replace("i1e", "i-1e");
    assert!(matches!(
        refused(&directory(&negative)),
        MetainfoError::Bencode(_)
    ));
    let twice = INFO.replace("6:lengthi40000e", "6:lengthi40000e6:lengthi40000e");
    assert!(matches!(
        refused(&twice),
        MetainfoError::Bencode(BencodeError::Key(_))
    ));
}

#[test]
fn empty_tiers_and_addresses_are_left_out() {
    let tiers = "13:announce-listllel0:el1:aee";
    let bytes = torrent(tiers, INFO, "8:url-listl0:1:we");
    let read = Metainfo::from_bytes(&bytes).unwrap();
    assert_eq!(read.announce(), [["a"]]);
    assert_eq!(read.url_list(), ["w"]);
    assert_eq!(Metainfo::from_bytes(&read.to_bytes()), Ok(read));
}

#[test]
fn too_many_or_too_long_addresses_and_comments_are_refused() {
    use MetainfoError as E;
    let check = |tiers: &[Vec<String>], seeds: &[String], comment: &str| {
        Metainfo::check_sources(tiers, seeds, Some(comment))
    };
    let urls = |count| vec!["u".to_owned(); count];
    let long = vec!["u".repeat(MAX_URL_BYTES + 1)];
    assert_eq!(check(&[urls(MAX_URLS)], &urls(MAX_URLS), "c"), Ok(()));
    assert_eq!(check(&[urls(MAX_URLS), urls(1)], &[], ""), Err(E::Urls));
    assert_eq!(check(&[], &urls(MAX_URLS + 1), ""), Err(E::Urls));
    assert_eq!(check(&[], &long, ""), Err(E::Urls));
    assert_eq!(check(std::slice::from_ref(&long), &[], ""), Err(E::Urls));
    let comment = "c".repeat(MAX_COMMENT_BYTES + 1);
    assert_eq!(check(&[], &[], &comment), Err(E::Comment(comment.len())));
}

fn directories() -> impl Strategy<Value = Metainfo> {
    let names = prop::collection::vec("[a-z]{1,3}", 1..3);
    let files = prop::collection::btree_map(names, 0_u64..50_000, 1..12);
    let tiers = prop::collection::vec(prop::collection::vec("[a-z]{1,9}", 1..3), 0..3);
    let comment = prop::option::of("\\PC{0,20}");
    (files, tiers, any::<bool>(), any::<u8>(), comment).prop_map(
        |(files, tiers, private, seed, comment)| {
            // A directory cannot be a file too: files and directories differ in their names.
            let files = files.into_iter().map(|(mut path, length)| {
                path.last_mut().unwrap().push_str(".bin");
                TorrentFile::new(path, length).unwrap()
            });
            let first = TorrentFile::new(vec!["0".to_owned()], 1).unwrap();
            let files: Vec<_> = std::iter::once(first).chain(files).collect();
            let length = files.iter().map(TorrentFile::length).sum();
            let geometry = Geometry::new(length, 1 << 14).unwrap();
            let hashes = vec![PieceHash::from_bytes([seed; 20]); geometry.pieces().count()];
            Metainfo::of_directory("d", files, geometry, hashes, private)
                .and_then(|torrent| torrent.with_sources(tiers, vec!["w".to_owned()], comment))
                .unwrap()
        },
    )
}

fn torrents() -> impl Strategy<Value = Metainfo> {
    let urls = || prop::collection::vec("\\PC{0,20}", 0..4);
    let pieces = prop::collection::vec(any::<[u8; 20]>(), 1..20);
    (
        pieces,
        1_u64..=1 << 14,
        "[a-z0-9 :]{1,30}",
        any::<bool>(),
        urls(),
        urls(),
    )
        .prop_map(|(pieces, last, name, private, announce, url_list)| {
            let pieces: Vec<_> = pieces.into_iter().map(PieceHash::from_bytes).collect();
            let length = ((pieces.len() as u64 - 1) << 14) + last;
            let geometry = Geometry::new(length, 1 << 14).unwrap();
            Metainfo::new(&name, geometry, pieces, private, &announce, &url_list).unwrap()
        })
}

proptest! {
    #[test]
    fn round_trip(torrent in torrents()) {
        let read = Metainfo::from_bytes(&torrent.to_bytes()).unwrap();
        prop_assert_eq!(read.info_hash(), torrent.info_hash());
        prop_assert_eq!(read.to_bytes(), torrent.to_bytes());
        prop_assert_eq!(read, torrent);
    }

    #[test]
    fn round_trip_of_a_directory(torrent in directories()) {
        let read = Metainfo::from_bytes(&torrent.to_bytes()).unwrap();
        prop_assert_eq!(read.info_hash(), torrent.info_hash());
        prop_assert_eq!(read.to_bytes(), torrent.to_bytes());
        prop_assert_eq!(read, torrent);
    }

    #[test]
    fn any_change_to_a_directory_is_read_or_refused(
        torrent in directories(), at: prop::sample::Index, byte: u8
    ) {
        let mut changed = torrent.to_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(read) = Metainfo::from_bytes(&changed) {
            prop_assert_eq!(Metainfo::from_bytes(&read.to_bytes()), Ok(read));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes: Vec<u8>, torrent in torrents(), at: prop::sample::Index, byte: u8
    ) {
        let _ = Metainfo::from_bytes(&bytes);
        let mut changed = torrent.to_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        let _ = Metainfo::from_bytes(&changed);
    }
}
