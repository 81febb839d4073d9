//! The .torrent file: v1 (BEP 3), of one file or of a directory.

mod file_layout;
#[cfg(test)]
mod tests;
mod torrent_file;

use serde::Deserialize;

pub use self::file_layout::{FileLayout, FileSpan};
use self::torrent_file::WireFile;
pub use self::torrent_file::{FileListError, TorrentFile};
use crate::bencode::{self, BencodeError, DictWriter};
use crate::{Geometry, GeometryError, InfoHash, Magnet, PieceHash};

/// Largest .torrent that is read: that of 2^20 pieces, and room for trackers.
const MAX_BYTES: usize = 24 * 1024 * 1024;
/// Room for what surrounds the info dictionary: addresses twice, once more in `announce`, comment.
const OUTER_BYTES: usize = 512 * 1024;
/// Bytes of a refused name that an error repeats.
const SHOWN_NAME: usize = 255;
/// Most trackers and most web seeds that are kept.
const MAX_URLS: usize = 64;
/// Longest tracker or web seed address that is kept.
const MAX_URL_BYTES: usize = 2048;
/// Longest comment that is kept.
const MAX_COMMENT_BYTES: usize = 4096;

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
    /// A v2-only torrent (BEP 52): there is neither `length` nor `files`.
    #[error("torrent without length and files, expected a v1 torrent (BEP 3)")]
    NoLength,
    /// Both `length` and `files`: readers would disagree on what it is.
    #[error("torrent with both length and files, expected one of them")]
    TwoLengths,
    /// The list of files is refused.
    #[error(transparent)]
    Files(#[from] FileListError),
    /// The length and piece length are refused.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The number of hashes is not the number of pieces.
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
        "more than {MAX_URLS} trackers or web seeds, or one of more than {MAX_URL_BYTES} bytes"
    )]
    Urls,
    /// The comment is too long.
    #[error("comment of {0} bytes, expected at most {MAX_COMMENT_BYTES}")]
    Comment(usize),
    /// The whole would be longer than what [`Metainfo::from_bytes`] reads.
    #[error(
        "torrent of {0} bytes, expected at most {MAX_BYTES}; pack the files or use longer pieces"
    )]
    TooLong(usize),
}

/// A v1 torrent of one file or of a directory.
///
/// Equality is that of all parts; two torrents name the same swarm when their info hashes are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    name: String,
    geometry: Geometry,
    /// In a torrent of one file: that file, with an empty path.
    files: Vec<TorrentFile>,
    directory: bool,
    pieces: Vec<PieceHash>,
    private: bool,
    comment: Option<String>,
    announce: Vec<Vec<String>>,
    url_list: Vec<String>,
    /// The info dictionary as it was or will be on the wire; it may have keys that we do not know.
    info: Vec<u8>,
}

impl Metainfo {
    /// Longest .torrent file that is read.
    pub const MAX_BYTES: usize = MAX_BYTES;
    /// Longest info dictionary that is read.
    pub const MAX_INFO_BYTES: usize = MAX_BYTES - OUTER_BYTES;

    /// A torrent of one file of these parts; each tracker is a tier of its own (BEP 12).
    /// Empty addresses are left out.
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
        let mut info = DictWriter::default();
        info.integer("length", geometry.length());
        let tiers = announce.iter().map(|url| vec![url.clone()]).collect();
        Self::of_parts(name, geometry, pieces, private, info).with_sources(
            tiers,
            url_list.to_vec(),
            None,
        )
    }

    /// A torrent of a directory called `name`, with its files in the order in which their bytes
    /// follow each other.
    ///
    /// # Errors
    /// The name or a path is unsafe, paths collide, the files' lengths are not those of the
    /// geometry, hashes are missing, or the .torrent would be too long to be read.
    pub fn of_directory(
        name: &str,
        files: Vec<TorrentFile>,
        geometry: Geometry,
        pieces: Vec<PieceHash>,
        private: bool,
    ) -> Result<Self, MetainfoError> {
        let mut info = DictWriter::default();
        info.raw(
            b"files",
            bencode::list(files.iter().map(TorrentFile::encoded)),
        );
        let mut torrent = Self::of_parts(name, geometry, pieces, private, info);
        torrent.files = files;
        torrent.directory = true;
        torrent.checked()
    }

    fn of_parts(
        name: &str,
        geometry: Geometry,
        pieces: Vec<PieceHash>,
        private: bool,
        mut info: DictWriter,
    ) -> Self {
        let mut hashes = Vec::with_capacity(pieces.len().saturating_mul(PieceHash::LENGTH));
        pieces
            .iter()
            .for_each(|hash| hashes.extend_from_slice(hash.as_bytes()));
        info.string("name", name)
            .integer("piece length", geometry.piece_length())
            .string("pieces", &hashes);
        if private {
            info.integer("private", 1_u32);
        }
        Self {
            name: name.to_owned(),
            geometry,
            files: vec![TorrentFile::single(geometry.length())],
            directory: false,
            pieces,
            private,
            comment: None,
            announce: Vec::new(),
            url_list: Vec::new(),
            info: info.finish(),
        }
    }

    /// The same torrent with these trackers in tiers (BEP 12), web seeds (BEP 19) and comment, none
    /// of which the info hash depends on. Empty tiers and addresses are left out.
    ///
    /// # Errors
    /// There are too many addresses, one is too long, or the comment is.
    pub fn with_sources(
        mut self,
        tiers: Vec<Vec<String>>,
        web_seeds: Vec<String>,
        comment: Option<String>,
    ) -> Result<Self, MetainfoError> {
        self.announce = without_empty(tiers);
        self.url_list = web_seeds;
        self.url_list.retain(|url| !url.is_empty());
        self.comment = comment;
        self.checked()
    }

    /// Reads a .torrent file of at most 24 MiB.
    ///
    /// # Errors
    /// The bytes are no v1 torrent, are unsafe to unpack, or exceed a cap.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let (wire, guarded): (WireMetainfo, _) = bencode::decode(bytes, MAX_BYTES)?;
        let info = guarded
            .info
            .and_then(|span| bytes.get(span))
            .ok_or(MetainfoError::NoInfo)?;
        let WireInfo {
            files,
            length,
            name,
            piece_length,
            pieces,
            private,
        } = wire.info;
        let (files, directory, length) = match (length, files) {
            (Some(_), Some(_)) => return Err(MetainfoError::TwoLengths),
            (None, None) => return Err(MetainfoError::NoLength),
            (Some(length), None) => (vec![TorrentFile::single(length)], false, length),
            (None, Some(files)) => {
                let files: Result<Vec<_>, _> =
                    files.into_iter().map(TorrentFile::try_from).collect();
                let files = files?;
                let length = torrent_file::total_length(&files)?;
                (files, true, length)
            }
        };
        let geometry = Geometry::new(length, piece_length)?;
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
            files,
            directory,
            pieces: hashes.iter().copied().map(PieceHash::from_bytes).collect(),
            private: private == Some(1),
            comment: wire
                .comment
                .map(|text| String::from_utf8_lossy(&text).into_owned()),
            // BEP 12: the list takes the place of the single tracker.
            announce: match (
                without_empty(wire.announce_list.unwrap_or_default()),
                wire.announce,
            ) {
                (tiers, Some(url)) if tiers.is_empty() => without_empty(vec![vec![url]]),
                (tiers, _) => tiers,
            },
            url_list: match wire.url_list {
                None => Vec::new(),
                Some(UrlList::One(url)) => vec![url],
                Some(UrlList::Many(urls)) => urls,
            }
            .into_iter()
            .filter(|url| !url.is_empty())
            .collect(),
            info: info.to_vec(),
        };
        torrent.checked()
    }

    /// Reads an info dictionary, as peers send it (BEP 9): it has neither trackers nor web seeds.
    /// The caller has compared its SHA-1 with the info hash.
    ///
    /// # Errors
    /// The bytes are no info dictionary of a v1 torrent, are unsafe to unpack, or exceed a cap.
    pub fn from_info(info: &[u8]) -> Result<Self, MetainfoError> {
        if info.len() > Self::MAX_INFO_BYTES {
            return Err(MetainfoError::TooLong(info.len()));
        }
        Self::from_bytes(&[b"d4:info", info, b"e"].concat())
    }

    /// Checks what [`Metainfo::with_sources`] takes, before anything is hashed for it.
    ///
    /// # Errors
    /// There are too many addresses, one is too long, or the comment is.
    pub fn check_sources(
        tiers: &[Vec<String>],
        web_seeds: &[String],
        comment: Option<&str>,
    ) -> Result<(), MetainfoError> {
        let too_many = tiers.len() > MAX_URLS
            || tiers.iter().map(Vec::len).sum::<usize>() > MAX_URLS
            || web_seeds.len() > MAX_URLS;
        let mut urls = tiers.iter().flatten().chain(web_seeds);
        if too_many || urls.any(|url| url.len() > MAX_URL_BYTES) {
            return Err(MetainfoError::Urls);
        }
        match comment.map_or(0, str::len) {
            bytes if bytes > MAX_COMMENT_BYTES => Err(MetainfoError::Comment(bytes)),
            _ => Ok(()),
        }
    }

    fn checked(self) -> Result<Self, MetainfoError> {
        if !torrent_file::is_file_name(&self.name) {
            let shown = self.name.chars().take(SHOWN_NAME).collect();
            return Err(MetainfoError::Name(shown));
        }
        if self.directory {
            torrent_file::check(&self.files, self.geometry.length())?;
        }
        let expected = byte_length(&self.geometry);
        let found = self.pieces.len().saturating_mul(PieceHash::LENGTH);
        if found != expected {
            return Err(MetainfoError::Pieces { expected, found });
        }
        Self::check_sources(&self.announce, &self.url_list, self.comment.as_deref())?;
        // What surrounds the info dictionary, generously: the caps above bound it.
        let length = self.info.len().saturating_add(OUTER_BYTES);
        if length > MAX_BYTES {
            return Err(MetainfoError::TooLong(length));
        }
        Ok(self)
    }

    /// The .torrent file. Equal parts give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut outer = DictWriter::default();
        outer.raw(b"info", self.info.clone());
        if let Some(comment) = &self.comment {
            outer.string("comment", comment);
        }
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

    /// The info dictionary, byte for byte what the info hash is of.
    pub fn info(&self) -> &[u8] {
        &self.info
    }

    /// SHA-1 of the info dictionary (BEP 3).
    pub fn info_hash(&self) -> InfoHash {
        InfoHash::of_info(&self.info)
    }

    /// The magnet link: info hash, name, trackers, web seeds (BEP 9).
    pub fn magnet(&self) -> Magnet {
        let trackers = self.announce.iter().flatten().cloned().collect();
        Magnet::new(self.info_hash(), Some(self.name.clone()), trackers)
            .with_web_seeds(self.url_list.clone())
    }

    /// The name of the file or directory: one path component.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files, one after the other; in a torrent of one file that one, with an empty path.
    pub fn files(&self) -> &[TorrentFile] {
        &self.files
    }

    /// Where each file lies in the whole.
    pub fn layout(&self) -> FileLayout {
        FileLayout::new(self.files.iter().map(TorrentFile::length))
    }

    /// Whether this is a torrent of a directory, `name` being that directory's.
    pub fn is_directory(&self) -> bool {
        self.directory
    }

    /// How the whole is cut.
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

    /// What its maker says of it; may hold any character.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
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

fn without_empty(mut tiers: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for tier in &mut tiers {
        tier.retain(|url| !url.is_empty());
    }
    tiers.retain(|tier| !tier.is_empty());
    tiers
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
    comment: Option<serde_bytes::ByteBuf>,
    info: WireInfo,
    #[serde(rename = "url-list")]
    url_list: Option<UrlList>,
}

#[derive(Deserialize)]
struct WireInfo {
    files: Option<Vec<WireFile>>,
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
