//! The files of the repository, as the rules see them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::finding::Finding;

/// Text files by their paths from the repository's root; files of bytes have an empty text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// What git tracks, and what is new and not ignored.
    pub(crate) fn of_this_repository() -> Self {
        let root = root();
        let listed = git(&["ls-files", "--cached", "--others", "--exclude-standard"]);
        let files = listed.lines().filter_map(|path| {
            // A file that was removed and not yet committed is listed as well.
            let bytes = fs::read(root.join(path)).ok()?;
            Some((
                path.to_owned(),
                String::from_utf8(bytes).unwrap_or_default(),
            ))
        });
        let tree = Self {
            files: files.collect(),
        };
        assert!(
            tree.text("Cargo.toml").is_some(),
            "git lists no files below {}",
            root.display()
        );
        tree
    }

    /// A made-up tree.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self {
            files: files.collect(),
        }
    }

    /// All paths with their texts, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Those whose names end like this, the dot included.
    pub(crate) fn ending<'a>(
        &'a self,
        ends: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files()
            .filter(|(path, _)| ends.iter().any(|end| path.ends_with(end)))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The folders of the crates, with their manifests.
    pub(crate) fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter_map(|(path, text)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            text.lines()
                .any(|line| line == "[package]")
                .then_some((folder, text))
        })
    }
}

/// The folder of a path; empty for a file of the root.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `folder/path` without `.` and `..`; none if it leaves the tree.
pub(crate) fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Files that git tracks although `.gitignore` names them.
pub(crate) fn tracked_although_ignored() -> Vec<Finding> {
    let listed = git(&["ls-files", "--cached", "--ignored", "--exclude-standard"]);
    let found = listed.lines().map(|path| Finding {
        path: path.to_owned(),
        line: 1,
        what: "tracked, although .gitignore names it".to_owned(),
        mend: format!("git rm --cached {path}, or take it out of .gitignore"),
    });
    found.collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git")
        // Also for root, in a tree of another user's.
        .args(["-c", "safe.directory=*", "-c", "core.quotePath=off"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("git can be started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "git {arguments:?} failed: {complaint}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_stay_in_the_tree() {
        assert_eq!(join("a/b", "../c/./d.rs").unwrap(), "a/c/d.rs");
        assert_eq!(join("", "d.rs").unwrap(), "d.rs");
        assert_eq!(join("a", "../../d.rs"), None);
    }
}
