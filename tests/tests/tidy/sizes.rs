//! How long a file may be, and how many may lie side by side.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::tree::Tree;

const MAX_LINES: usize = 500;
const MAX_LINES_OF_TESTS: usize = 650;
/// The root of the crate among them.
const MAX_FLAT_FILES: usize = 12;

const SOURCES: &[&str] = &[".rs", ".js", ".mjs", ".py", ".sh", ".css", ".html"];

/// Files with more lines than a reader keeps in mind.
pub(crate) fn long_files(tree: &Tree) -> Vec<Finding> {
    let found = tree.ending(SOURCES).filter_map(|(path, text)| {
        let (lines, most) = (
            text.lines().count(),
            if is_test(path) {
                MAX_LINES_OF_TESTS
            } else {
                MAX_LINES
            },
        );
        (lines > most).then(|| Finding {
            path: path.to_owned(),
            line: most + 1,
            what: format!("{lines} lines, of at most {most}"),
            mend: "move one of its ideas into a file that is named after it".to_owned(),
        })
    });
    found.collect()
}

/// Whether a file is nothing but tests and what they need.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("tests.rs")
}

/// Source folders with too many files beside each other.
pub(crate) fn flat_folders(tree: &Tree) -> Vec<Finding> {
    let mut flat: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, _) in tree.ending(&[".rs"]) {
        if let Some((krate, file)) = path
            .split_once("/src/")
            .filter(|(_, file)| !file.contains('/'))
        {
            flat.entry(krate).or_default().push(file);
        }
    }
    let crowded = flat
        .into_iter()
        .filter(|(_, files)| files.len() > MAX_FLAT_FILES);
    let found = crowded.map(|(krate, files)| Finding {
        path: format!("{krate}/src"),
        line: 1,
        what: format!(
            "{} files side by side, of at most {MAX_FLAT_FILES}: {}",
            files.len(),
            files.join(" ")
        ),
        mend: "give each idea a folder".to_owned(),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_more_is_too_many() {
        let (fits, long) = ("x\n".repeat(500), "x\n".repeat(501));
        let tests = "x\n".repeat(650);
        let tree = Tree::of(&[
            ("a/src/a.rs", &fits),
            ("a/src/b.rs", &long),
            ("a/tests/c.rs", &tests),
        ]);
        let found: Vec<_> = long_files(&tree)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(found, ["a/src/b.rs"]);
    }

    #[test]
    fn files_in_folders_are_not_flat() {
        let names: Vec<_> = (0..13).map(|i| format!("a/src/f{i}.rs")).collect();
        let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(flat_folders(&Tree::of(&files)).len(), 1);
        files[0].0 = "a/src/folder/f0.rs";
        assert_eq!(flat_folders(&Tree::of(&files)), []);
    }
}
