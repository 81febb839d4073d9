//! Documentation that a reader finds.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::tree::{Tree, folder, join};

const MAX_README_LINES: usize = 150;

/// Files of `docs/` to which no link leads from README.md, and links that lead nowhere.
pub(crate) fn lost(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reached = BTreeSet::new();
    let mut next = vec!["README.md".to_owned()];
    while let Some(document) = next.pop() {
        if !reached.insert(document.clone()) || !document.ends_with(".md") {
            continue;
        }
        for (line, link) in links(tree.text(&document).unwrap_or_default()) {
            let target = join(folder(&document), link).unwrap_or_default();
            let is_there = tree
                .files()
                .any(|(path, _)| path == target || path.starts_with(&format!("{target}/")));
            if is_there {
                next.push(target);
            } else {
                findings.push(Finding {
                    path: document.clone(),
                    line,
                    what: format!("the link {link} leads to no file of the tree"),
                    mend: "name the file's path from this document".to_owned(),
                });
            }
        }
    }
    let lost = tree
        .files()
        .filter(|(path, _)| path.starts_with("docs/") && !reached.contains(*path));
    findings.extend(lost.map(|(path, _)| Finding {
        path: path.to_owned(),
        line: 1,
        what: "no link leads here from README.md".to_owned(),
        mend: "link it in docs/README.md, or remove it".to_owned(),
    }));
    findings
}

/// The files that a document links or shows, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        for begin in ["](", "]: ", "src=\"", "href=\""] {
            // A definition of a link begins its line.
            if is_code || begin == "]: " && !line.starts_with('[') {
                continue;
            }
            for after in line.split(begin).skip(1) {
                let target = after.split([')', '"', ' ', '#']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains(':') {
                    links.push((index + 1, target));
                }
            }
        }
    }
    links
}

/// README.md, if it is more than a beginning.
pub(crate) fn long_readme(tree: &Tree) -> Vec<Finding> {
    let lines = tree.text("README.md").unwrap_or_default().lines().count();
    let found = (lines > MAX_README_LINES).then(|| Finding {
        path: "README.md".to_owned(),
        line: MAX_README_LINES + 1,
        what: format!("{lines} lines, of at most {MAX_README_LINES}"),
        mend: "move a chapter to docs/ and link it".to_owned(),
    });
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_by_links_of_links() {
        let tree = Tree::of(&[
            (
                "README.md",
                "[a](docs/a.md#part) <img src=\"docs/b.png\"> [c](https://example.org/docs/c.md)\n[gone](docs/gone.md)",
            ),
            ("docs/a.md", "```\n[c](c.md)\n```\n[d]\n\n[d]: more/d.md\n"),
            ("docs/b.png", ""),
            ("docs/c.md", ""),
            ("docs/more/d.md", "[up](../../README.md) [all](../more)"),
        ]);
        let found: Vec<_> = lost(&tree)
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect();
        assert_eq!(
            found,
            [("README.md".to_owned(), 2), ("docs/c.md".to_owned(), 1)]
        );
    }

    #[test]
    fn a_readme_of_151_lines_is_long() {
        assert_eq!(
            long_readme(&Tree::of(&[("README.md", &"x\n".repeat(150))])),
            []
        );
        assert_eq!(
            long_readme(&Tree::of(&[("README.md", &"x\n".repeat(151))])).len(),
            1
        );
    }
}
