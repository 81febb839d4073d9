//! Lets a file appear: whole, compared with its digest, on the disk, and only then.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use flotilla_client::store::placement::place;
use flotilla_torrents::Digest;

use super::expected_digest::{ExpectedDigest, digests_of};
use crate::error::GetError;

/// What to make of a complete part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) part: &'a Path,
    pub(crate) output: &'a Path,
    /// Nothing below this directory is written through a symbolic link.
    pub(crate) below: Option<&'a Path>,
    pub(crate) expected: Option<&'a ExpectedDigest>,
    /// Whether the SHA-256 is asked for.
    pub(crate) wants_digest: bool,
    /// Whether the part stays in a daemon's cache.
    pub(crate) is_cached: bool,
}

/// A file that has appeared.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) bytes: u64,
    pub(crate) sha256: Option<Digest>,
}

/// Checks the digest and puts the file in its place by a rename within its directory; blocks.
pub(crate) fn publish(publication: Publication<'_>) -> Result<Published, GetError> {
    let Publication {
        part,
        output,
        below,
        expected,
        wants_digest,
        is_cached,
    } = publication;
    let mut sha256 = None;
    if wants_digest || expected.is_some() {
        let digests = digests_of(part, expected).map_err(|error| GetError::io(part, error))?;
        if let (Some(expected), Some(found)) = (expected, digests.found)
            && *expected != found
        {
            return Err(GetError::Digest {
                expected: Box::new(expected.clone()),
                found: Box::new(found),
            });
        }
        sha256 = Some(digests.sha256);
    }
    if let Some(below) = below {
        make_directories(below, output)?;
    }
    let put = if is_cached { share } else { put };
    let bytes = put(part, output).map_err(|error| GetError::io(output, error))?;
    Ok(Published { bytes, sha256 })
}

/// Another's file: at most a name for reading of it.
fn share(part: &Path, output: &Path) -> io::Result<u64> {
    place(part, output)?;
    Ok(fs::metadata(output)?.len())
}

fn put(part: &Path, output: &Path) -> io::Result<u64> {
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".flotilla-")
        .tempdir_in(parent)?;
    let link = scratch.path().join("file");
    // Same file system: a second name for the same bytes. Otherwise: a copy.
    if fs::hard_link(part, &link).is_err() {
        fs::copy(part, &link)?;
    }
    let file = File::open(&link)?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    fs::rename(&link, output)?;
    File::open(parent)?.sync_all()?;
    Ok(bytes)
}

/// Makes the directories from `root` down to the one of `output`; none of them may be a symbolic
/// link, which could lead anywhere.
fn make_directories(root: &Path, output: &Path) -> Result<(), GetError> {
    fs::create_dir_all(root).map_err(|error| GetError::io(root, error))?;
    let outside = || GetError::Output {
        path: output.to_owned(),
        what: "lies outside of the output directory",
    };
    let relative = output.strip_prefix(root).map_err(|_| outside())?;
    let mut dir = root.to_owned();
    for component in relative.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = component else {
            return Err(outside());
        };
        dir.push(name);
        // Another file of the same run may make it at the same moment.
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(GetError::io(&dir, error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&dir).map_err(|error| GetError::io(&dir, error))?;
        if !found.is_dir() {
            return Err(GetError::Output {
                path: dir,
                what: "is in the way: a symbolic link or a file where a directory has to be",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication<'a>(part: &'a Path, output: &'a Path, below: &'a Path) -> Publication<'a> {
        Publication {
            part,
            output,
            below: Some(below),
            expected: None,
            wants_digest: true,
            is_cached: false,
        }
    }

    #[test]
    fn a_file_replaces_its_predecessor_and_directories_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let (part, root) = (dir.path().join("part"), dir.path().join("out"));
        let output = root.join("a/b/file");
        for text in ["one", "other"] {
            fs::write(&part, text).unwrap();
            let published = publish(publication(&part, &output, &root)).unwrap();
            assert_eq!(published.bytes, text.len() as u64);
            assert_eq!(fs::read_to_string(&output).unwrap(), text);
            fs::remove_file(&part).unwrap();
        }
        assert_eq!(fs::read_dir(root.join("a/b")).unwrap().count(), 1);
    }

    /// Publishes many files at the same moment, all below `below` of the output directory.
    fn publish_side_by_side(dir: &Path, below: &str) -> Vec<Result<Published, GetError>> {
        const FILES: usize = 16;
        let root = dir.join("out");
        let start = std::sync::Barrier::new(FILES);
        std::thread::scope(|scope| {
            let publish_one = |number: usize| {
                let part = dir.join(format!("part {number}"));
                fs::write(&part, number.to_string()).unwrap();
                let output = root.join(below).join(number.to_string());
                start.wait();
                let published = publish(publication(&part, &output, &root));
                assert!(published.is_err() || output.is_file(), "{output:?}");
                published
            };
            let started: Vec<_> = (0..FILES)
                .map(|number| scope.spawn(move || publish_one(number)))
                .collect();
            started.into_iter().map(|it| it.join().unwrap()).collect()
        })
    }

    #[test]
    fn files_that_are_published_side_by_side_share_directories() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            for published in publish_side_by_side(dir.path(), &format!("{round}/a/b/c/d/e/f")) {
                published.unwrap();
            }
        }
    }

    #[test]
    fn files_that_are_published_side_by_side_are_all_refused_where_a_link_is() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("out/link")).unwrap();
        for published in publish_side_by_side(dir.path(), "link/a") {
            assert!(matches!(published, Err(GetError::Output { .. })));
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (part, root) = (dir.path().join("part"), dir.path().join("out"));
        fs::write(&part, "bytes").unwrap();
        fs::create_dir_all(&root).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("link")).unwrap();
        let through = root.join("link/file");
        assert!(publish(publication(&part, &through, &root)).is_err());
        let above = root.join("../elsewhere/file");
        assert!(publish(publication(&part, &above, &root)).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // A link in the place of the file itself is replaced, not followed.
        std::os::unix::fs::symlink(elsewhere.join("target"), root.join("file")).unwrap();
        publish(publication(&part, &root.join("file"), &root)).unwrap();
        assert!(!elsewhere.join("target").exists());
        assert!(root.join("file").symlink_metadata().unwrap().is_file());
    }
}
