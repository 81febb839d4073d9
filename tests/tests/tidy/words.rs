//! Words that a reader stumbles over, with the plain ones.

use crate::finding::Finding;
use crate::tokens::tokens;
use crate::tree::Tree;

const PROSE: &[&str] = &[".rs", ".md", ".toml", ".js", ".html"];

/// Where these words have to be written down.
const THIS_TEST: &str = "tests/tests/tidy/";

/// Each word with the plain words for it.
type Words = &'static [(&'static str, &'static str)];

/// Now and then one of these is right.
const RARE: Words = &[
    ("whoever", "name them: \"callers\", \"nodes that\""),
    ("whom", "turn the sentence: \"the node that it serves\""),
    (
        "nobody",
        "\"no node\", \"no caller\", or the passive: \"is not read\"",
    ),
    ("somebody", "name them: \"a user\", \"another process\""),
    ("everybody", "\"all nodes\", \"every caller\", \"anyone\""),
];
const MAX_RARE: usize = 20;

const NEVER: Words = &[
    ("goes on", "\"continues\", \"keeps running\""),
    ("gives free", "\"frees\", \"releases\", \"unpins\""),
    ("the same of", "\"likewise for\", or say it again"),
    ("vouches for", "\"confirms\", \"signs\", \"is trusted to\""),
];

const CONSTANTS: Words = &[
    ("MOST_", "MAX_"),
    ("LONGEST_", "MAX_, or …_TIMEOUT for a time"),
    ("LARGEST_", "MAX_"),
    ("LEAST_", "MIN_"),
    ("SMALLEST_", "MIN_"),
    ("SHORTEST_", "MIN_"),
];

/// Where the authors' machines and their package registries show.
const MACHINES: Words = &[
    ("/work/", "a path from the root of the tree"),
    ("/root/", "~, or a path from the root of the tree"),
    ("/home/", "~, or a path from the root of the tree"),
    ("/tmp/bash_jobs", "a scratch directory of the test's own"),
    ("static.crates.io", "the crate's name"),
    ("index.crates.io", "the crate's name"),
    ("registry.npmjs.org", "the package's name"),
    ("pypi.org", "the package's name"),
    ("files.pythonhosted.org", "the package's name"),
    ("proxy.golang.org", "the module's name"),
    ("deb.debian.org", "the package's name"),
    ("repo.maven.apache.org", "the package's name"),
];

/// Files that tools write, with the hosts that they use.
const LOCK_FILES: &[&str] = &["Cargo.lock", "package-lock.json"];

/// Uses of words that are not plain.
pub(crate) fn words(tree: &Tree) -> Vec<Finding> {
    let texts = || {
        tree.ending(PROSE)
            .filter(|(path, _)| !path.starts_with(THIS_TEST))
    };
    let mut rare = uses(texts(), RARE);
    if rare.len() <= MAX_RARE {
        rare.clear();
    }
    let count = rare.len();
    for finding in &mut rare {
        finding.what = format!(
            "{} (one of {count}, of at most {MAX_RARE} in the tree)",
            finding.what
        );
    }
    rare.extend(uses(texts(), NEVER));
    rare
}

/// Names of constants that a reader does not look for.
pub(crate) fn constants(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .ending(&[".rs"])
        .filter(|(path, _)| !path.starts_with(THIS_TEST))
    {
        for token in tokens(text) {
            let unplain = CONSTANTS.iter().find(|(begin, _)| {
                token.text.starts_with(begin) || token.text.contains(&format!("_{begin}"))
            });
            if let Some((_, plain)) = unplain.filter(|_| token.is_name()) {
                findings.push(Finding {
                    path: path.to_owned(),
                    line: token.line,
                    what: format!("the constant {}", token.text),
                    mend: format!("name it {plain}"),
                });
            }
        }
    }
    findings
}

/// Paths and hosts of the machines that the tree was written on.
pub(crate) fn machines(tree: &Tree) -> Vec<Finding> {
    let is_ours = |path: &str| {
        !path.starts_with(THIS_TEST) && !LOCK_FILES.iter().any(|lock| path.ends_with(lock))
    };
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_ours(path)) {
        for (index, line) in text.lines().enumerate() {
            for (found, plain) in MACHINES.iter().filter(|(found, _)| line.contains(found)) {
                findings.push(Finding {
                    path: path.to_owned(),
                    line: index + 1,
                    what: format!("names {found}, which is a machine's or a registry's"),
                    mend: format!("write {plain}"),
                });
            }
        }
    }
    findings
}

fn uses<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>, words: Words) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts {
        for (index, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (word, plain) in words {
                let found = line
                    .match_indices(word)
                    .filter(|(at, _)| is_whole(&line, *at, word.len()));
                findings.extend(found.map(|_| Finding {
                    path: path.to_owned(),
                    line: index + 1,
                    what: format!("\"{word}\""),
                    mend: format!("write {plain}"),
                }));
            }
        }
    }
    findings
}

/// Parts of names in snake case are words too.
fn is_whole(line: &str, at: usize, length: usize) -> bool {
    let is_letter = |c: char| c.is_alphanumeric();
    !line[..at].ends_with(is_letter) && !line[at + length..].starts_with(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn rare_words_are_counted_over_the_whole_tree() {
        let (some, one) = (
            "/// Nobody, whoever.\n".repeat(10),
            "fn whom_it_serves() {}\n",
        );
        assert_eq!(
            words(&Tree::of(&[("a.rs", &some), ("b.md", "nobodys whomever")])),
            []
        );
        let found = words(&Tree::of(&[("a.rs", &some), ("b.rs", one)]));
        assert_eq!(found.len(), 21);
        assert!(found[20].what.contains("one of 21"), "{}", found[20]);
    }

    #[test]
    fn phrases_are_found_whole() {
        let found = words(&Tree::of(&[(
            "a.rs",
            "// It goes on.\n// cargoes onward\n",
        )]));
        assert_eq!(lines(&found), [1]);
    }

    #[test]
    fn constants_are_found_wherever_they_are_used() {
        let text = "const MOST_PEERS: u8 = 1;\n// MOST_PEERS\nf(super::LONGEST_WAIT, ALMOST_ALL, INFOS_LEAST_SIZE)\n";
        assert_eq!(lines(&constants(&Tree::of(&[("a.rs", text)]))), [1, 3, 3]);
    }

    #[test]
    fn machines_are_found_in_all_but_lock_files() {
        let tree = Tree::of(&[
            ("a.sh", "x\ncd /work/main\n"),
            ("Cargo.lock", "index.crates.io"),
            ("b.yml", "~/x"),
        ]);
        let found = machines(&tree);
        assert_eq!(lines(&found), [2]);
        assert_eq!(found[0].path, "a.sh");
    }
}
