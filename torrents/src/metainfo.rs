//! The .torrent file: v1 (BEP 3), one file.

use serde::Deserialize;

use crate::bencode::{self, BencodeError, DictWriter};
use crate::{Geometry, GeometryError, InfoHash, PieceHash};

/// Largest .torrent that is read: that of 2^20 pieces, and room for trackers.
const MOST_BYTES: usize = 24 * 1024 * 1024;
/// Longest file name (the limit of Linux's file systems).
const MOST_NAME_BYTES: usize = 255;
/// Most trackers and most web seeds that are kept.
const MOST_URLS: usize = 64;
/// Longest tracker or web seed address that is kept.
const MOST_URL_BYTES: usize = 2048;

/// Bytes or parts that are no torrent this program takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Not strict bencode of the expected shape.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// There is no info dictionary.
    #[error("torrent without info dictionary")]
    NoInfo,
    /// Several files, or a v2-only torrent (BEP 52): there is no `length`.
    #[error("torrent without a single length, expected a v1 torrent of one file")]
    NotOneFile,
    /// The length and piece length are refused.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The hashes are not those of so many pieces.
    #[error("torrent with {found} bytes of piece hashes, expected {expected}")]
    Pieces {
        /// Bytes that the geometry needs.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The name is no plain file name.
    #[error("torrent name must be a file name of at most 255 bytes, found {0:?}")]
    Name(String),
    /// Too many trackers or web seeds, or too long ones.
    #[error(
        "more than {MOST_URLS} trackers or web seeds, or one of more than {MOST_URL_BYTES} bytes"
    )]
    Urls,
}

/// A v1 torrent of one file.
///
/// Equality is that of all parts; two torrents name the same swarm when their info hashes are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    name: String,
    geometry: Geometry,
    pieces: Vec<PieceHash>,
    private: bool,
    announce: Vec<Vec<String>>,
    url_list: Vec<String>,
    /// The info dictionary as it was or will be on the wire; it may have keys that we do not know.
    info: Vec<u8>,
}

impl Metainfo {
    /// A torrent of these parts; each tracker is a tier of its own (BEP 12).
    ///
    /// # Errors
    /// The name is no file name, hashes are missing, or there are too many addresses.
    pub fn new(
        name: &str,
        geometry: Geometry,
        pieces: Vec<PieceHash>,
        private: bool,
        announce: &[String],
        url_list: &[String],
    ) -> Result<Self, MetainfoError> {
        let mut hashes = Vec::with_capacity(pieces.len().saturating_mul(PieceHash::LENGTH));
        pieces
            .iter()
            .for_each(|hash| hashes.extend_from_slice(hash.as_bytes()));
        let mut info = DictWriter::default();
        info.integer("length", geometry.length())
            .string("name", name)
            .integer("piece length", geometry.piece_length())
            .string("pieces", &hashes);
        if private {
            info.integer("private", 1_u32);
        }
        let announce = announce.iter().map(|url| vec![url.clone()]).collect();
        let url_list = url_list.to_vec();
        let info = info.finish();
        Self {
            name: name.to_owned(),
            geometry,
            pieces,
            private,
            announce,
            url_list,
            info,
        }
        .checked()
    }

    /// Reads a .torrent file of at most 24 MiB.
    ///
    /// # Errors
    /// The bytes are no v1 torrent of one file, or exceed a cap.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let (wire, guarded): (WireMetainfo, _) = bencode::decode(bytes, MOST_BYTES)?;
        let info = guarded
            .info
            .and_then(|span| bytes.get(span))
            .ok_or(MetainfoError::NoInfo)?;
        let WireInfo {
            length,
            name,
            piece_length,
            pieces,
            private,
        } = wire.info;
        let geometry = Geometry::new(length.ok_or(MetainfoError::NotOneFile)?, piece_length)?;
        let (hashes, rest) = pieces.as_chunks::<{ PieceHash::LENGTH }>();
        let expected = byte_length(&geometry);
        if !rest.is_empty() {
            return Err(MetainfoError::Pieces {
                expected,
                found: pieces.len(),
            });
        }
        let torrent = Self {
            name: String::from_utf8(name.into_vec())
                .map_err(|e| MetainfoError::Name(e.to_string()))?,
            geometry,
            pieces: hashes.iter().copied().map(PieceHash::from_bytes).collect(),
            private: private == Some(1),
            // BEP 12: the list takes the place of the single tracker.
            announce: match (wire.announce_list, wire.announce) {
                (Some(tiers), _) if tiers.iter().any(|tier| !tier.is_empty()) => tiers,
                (_, Some(url)) => vec![vec![url]],
                _ => Vec::new(),
            },
            url_list: match wire.url_list {
                None => Vec::new(),
                Some(UrlList::One(url)) if url.is_empty() => Vec::new(),
                Some(UrlList::One(url)) => vec![url],
                Some(UrlList::Many(urls)) => urls,
            },
            info: info.to_vec(),
        };
        torrent.checked()
    }

    fn checked(self) -> Result<Self, MetainfoError> {
        let reserved = matches!(self.name.as_str(), "" | "." | "..");
        if reserved || self.name.len() > MOST_NAME_BYTES || self.name.contains(['/', '\\', '\0']) {
            let shown = self.name.chars().take(MOST_NAME_BYTES).collect();
            return Err(MetainfoError::Name(shown));
        }
        let expected = byte_length(&self.geometry);
        let found = self.pieces.len().saturating_mul(PieceHash::LENGTH);
        if found != expected {
            return Err(MetainfoError::Pieces { expected, found });
        }
        let too_many = self.announce.len() > MOST_URLS
            || self.announce.iter().map(Vec::len).sum::<usize>() > MOST_URLS
            || self.url_list.len() > MOST_URLS;
        let mut urls = self.announce.iter().flatten().chain(&self.url_list);
        if too_many || urls.any(|url| url.len() > MOST_URL_BYTES) {
            return Err(MetainfoError::Urls);
        }
        Ok(self)
    }

    /// The .torrent file. Equal parts give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut outer = DictWriter::default();
        outer.raw(b"info", self.info.clone());
        if let Some(first) = self.announce.iter().flatten().next() {
            outer.string("announce", first);
        }
        if self.announce.iter().map(Vec::len).sum::<usize>() > 1 {
            let tiers = self.announce.iter().map(|tier| encoded_strings(tier));
            outer.raw(b"announce-list", bencode::list(tiers));
        }
        if !self.url_list.is_empty() {
            outer.raw(b"url-list", encoded_strings(&self.url_list));
        }
        outer.finish()
    }

    /// SHA-1 of the info dictionary (BEP 3).
    pub fn info_hash(&self) -> InfoHash {
        InfoHash::of_info(&self.info)
    }

    /// The file's name: one path component.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the file is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The hash of each piece.
    pub fn pieces(&self) -> &[PieceHash] {
        &self.pieces
    }

    /// Whether peers come from the trackers alone (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The trackers in tiers (BEP 12).
    pub fn announce(&self) -> &[Vec<String>] {
        &self.announce
    }

    /// The web seeds (BEP 19).
    pub fn url_list(&self) -> &[String] {
        &self.url_list
    }
}

fn byte_length(geometry: &Geometry) -> usize {
    usize::try_from(geometry.piece_count())
        .unwrap_or(usize::MAX)
        .saturating_mul(PieceHash::LENGTH)
}

fn encoded_strings(strings: &[String]) -> Vec<u8> {
    bencode::list(strings.iter().map(|text| bencode::string(text.as_bytes())))
}

// Not librqbit_core::TorrentMetaV1: serde_bencode cannot read it (`private` is a bool there), and it
// drops `url-list`.
#[derive(Deserialize)]
struct WireMetainfo {
    announce: Option<String>,
    #[serde(rename = "announce-list")]
    announce_list: Option<Vec<Vec<String>>>,
    info: WireInfo,
    #[serde(rename = "url-list")]
    url_list: Option<UrlList>,
}

#[derive(Deserialize)]
struct WireInfo {
    length: Option<u64>,
    name: serde_bytes::ByteBuf,
    #[serde(rename = "piece length")]
    piece_length: u32,
    #[serde(with = "serde_bytes", default)]
    pieces: Vec<u8>,
    private: Option<i64>,
}

/// BEP 19: a string, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum UrlList {
    One(String),
    Many(Vec<String>),
}

#[cfg(test)]
mod tests {
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
        let files =
            "d5:filesld6:lengthi1e4:pathl1:aeee4:name1:a12:piece lengthi16384e6:pieces60:#e";
        assert_eq!(refused(files), E::NotOneFile);
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
}
