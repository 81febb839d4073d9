//! Which files of a torrent are wanted, and the pieces that it takes to have them.

use flotilla_torrents::{Bitfield, FileSpan, Metainfo, PieceHash, TorrentFile};

use crate::torrent_files::path_filter::PathFilter;

/// Paths that an error names.
const MAX_SHOWN: usize = 20;

/// No file is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no file of the torrent is selected by --include and --exclude; it has {0}")]
pub struct NothingSelectedError(String);

/// Files of one torrent.
#[derive(Clone, Debug)]
pub struct FileSelection {
    /// One for each file; none: all are selected.
    selected: Option<Vec<bool>>,
    wanted: Bitfield,
    length: u64,
}

impl FileSelection {
    /// All files.
    pub fn all(torrent: &Metainfo) -> Self {
        let geometry = torrent.geometry();
        Self {
            selected: None,
            wanted: Bitfield::full(&geometry),
            length: geometry.length(),
        }
    }

    /// Those that `filter` selects by their paths below the torrent's directory; the only file of a
    /// torrent has the torrent's name.
    ///
    /// # Errors
    /// No file is selected.
    pub fn new(torrent: &Metainfo, filter: &PathFilter) -> Result<Self, NothingSelectedError> {
        if filter.is_empty() {
            return Ok(Self::all(torrent));
        }
        let selects = |file: &TorrentFile| match file.path() {
            [] => filter.selects([torrent.name()]),
            path => filter.selects(path.iter().map(String::as_str)),
        };
        let files = torrent.files();
        let selected: Vec<bool> = files
            .iter()
            .map(|file| !file.is_padding() && selects(file))
            .collect();
        if !selected.contains(&true) {
            return Err(NothingSelectedError(names_of(torrent)));
        }
        let mut files = files.iter().zip(&selected);
        if files.all(|(file, selected)| *selected || file.is_padding()) {
            return Ok(Self::all(torrent));
        }
        let (geometry, layout) = (torrent.geometry(), torrent.layout());
        let mut wanted = Bitfield::empty(&geometry);
        let mut length = 0_u64;
        for (number, file) in torrent.files().iter().enumerate() {
            if selected.get(number) == Some(&true) {
                length = length.saturating_add(file.length());
                for piece in layout.pieces_of(number, &geometry) {
                    wanted.set(piece);
                }
            }
        }
        Ok(Self {
            selected: Some(selected),
            wanted,
            length,
        })
    }

    /// Whether all files are selected.
    pub fn is_all(&self) -> bool {
        self.selected.is_none()
    }

    /// Whether the file of this number is selected.
    pub fn has(&self, file: usize) -> bool {
        let selected = self.selected.as_ref();
        selected.is_none_or(|selected| selected.get(file) == Some(&true))
    }

    /// The pieces with bytes of selected files; those at the files' ends have bytes of others too.
    pub fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// Bytes of the selected files.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Those of these parts of files that are of selected ones, in bytes.
    pub fn bytes_in(&self, spans: impl Iterator<Item = FileSpan>) -> u64 {
        let selected = spans.filter(|span| self.has(span.file));
        selected.map(|span| span.length).sum()
    }

    /// Tells this selection from others of the same torrent; none when all files are selected.
    pub fn name(&self) -> Option<String> {
        let selected = self.selected.as_ref()?;
        let bytes: Vec<u8> = selected
            .iter()
            .map(|selected| u8::from(*selected))
            .collect();
        Some(PieceHash::of(&bytes).to_string())
    }
}

fn names_of(torrent: &Metainfo) -> String {
    let files = torrent.files();
    let mut files = files.iter().filter(|file| !file.is_padding());
    let shown: Vec<String> = files
        .by_ref()
        .take(MAX_SHOWN)
        .map(|file| match file.path() {
            [] => torrent.name().to_owned(),
            path => path.join("/"),
        })
        .collect();
    let shown = shown.join(", ");
    match files.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::{Geometry, PieceIndex};
    use glob::Pattern;

    use super::*;

    const PIECE: u64 = 1 << 14;

    fn torrent(files: &[(&str, u64)]) -> Metainfo {
        let length = files.iter().map(|(_, length)| length).sum();
        let geometry = Geometry::new(length, 1 << 14).unwrap();
        let hashes = geometry.pieces().map(|_| PieceHash::of(b"")).collect();
        let files = files.iter().map(|(path, length)| {
            let path = path.split('/').map(str::to_owned).collect();
            TorrentFile::new(path, *length).unwrap()
        });
        Metainfo::of_directory("t", files.collect(), geometry, hashes, false).unwrap()
    }

    fn only(glob: &str) -> PathFilter {
        PathFilter {
            include: vec![Pattern::new(glob).unwrap()],
            exclude: Vec::new(),
        }
    }

    #[test]
    fn pieces_that_files_share_are_wanted_for_either() {
        let torrent = torrent(&[
            ("a", PIECE + 1),
            ("sub/b", 5),
            ("empty", 0),
            ("c", 3 * PIECE),
        ]);
        for (glob, pieces, length) in [
            ("a", &[0, 1][..], PIECE + 1),
            ("b", &[1], 5),
            ("c", &[1, 2, 3, 4], 3 * PIECE),
            ("empty", &[], 0),
        ] {
            let selection = FileSelection::new(&torrent, &only(glob)).unwrap();
            let wanted = selection.wanted().iter_set().map(PieceIndex::get);
            assert_eq!(wanted.collect::<Vec<_>>(), pieces, "{glob}");
            assert_eq!(selection.length(), length, "{glob}");
            assert!(!selection.is_all() && selection.name().is_some(), "{glob}");
        }
        let names =
            ["a", "b"].map(|glob| FileSelection::new(&torrent, &only(glob)).unwrap().name());
        assert_ne!(names[0], names[1]);
        assert!(FileSelection::new(&torrent, &only("*")).unwrap().is_all());
    }

    #[test]
    fn who_selects_nothing_is_told_what_there_is() {
        let many: Vec<String> = (0..23).map(|number| format!("d/{number:02}")).collect();
        let files: Vec<(&str, u64)> = many.iter().map(|path| (path.as_str(), 1)).collect();
        let error = FileSelection::new(&torrent(&files), &only("x")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("d/00, d/01") && text.ends_with("d/19 and 3 more"),
            "{text}"
        );
        let geometry = Geometry::new(1, 1 << 14).unwrap();
        let single = Metainfo::new("name", geometry, vec![PieceHash::of(b"x")], false, &[], &[]);
        let single = single.unwrap();
        assert!(FileSelection::new(&single, &only("na*")).unwrap().is_all());
        let text = FileSelection::new(&single, &only("x"))
            .unwrap_err()
            .to_string();
        assert!(text.ends_with("it has name"), "{text}");
    }
}
