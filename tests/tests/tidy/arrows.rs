//! Which crate may depend on which.

use crate::finding::Finding;
use crate::tree::Tree;

/// A crate's folder, what it may depend on, and what its tests may use beside that.
struct Allowed {
    krate: &'static str,
    dependencies: &'static [&'static str],
    of_tests: &'static [&'static str],
}

const fn allow(krate: &'static str, dependencies: &'static [&'static str]) -> Allowed {
    Allowed {
        krate,
        dependencies,
        of_tests: &[],
    }
}

/// torrents <- cluster <- {tracker, client, registry} <- {get, seeder, proxy} <- flotilla. Crates of one step
/// know nothing of each other.
const ALLOWED: &[Allowed] = &[
    allow("torrents", &[]),
    // Fuzzed is whatever decodes bytes from elsewhere.
    allow("fuzz", &["torrents", "cluster", "registry"]),
    allow("tracker", &["torrents", "cluster"]),
    allow("cluster", &["torrents"]),
    allow("client", &["torrents", "cluster"]),
    allow("registry", &["torrents", "cluster"]),
    allow("get", &["torrents", "cluster", "client", "registry"]),
    allow(
        "seeder",
        &["torrents", "cluster", "tracker", "client", "registry"],
    ),
    Allowed {
        krate: "proxy",
        dependencies: &["torrents", "cluster", "client", "registry"],
        // A supernode for its nodes.
        of_tests: &["seeder"],
    },
    allow(
        "flotilla",
        &[
            "torrents", "tracker", "cluster", "client", "registry", "get", "seeder", "proxy",
        ],
    ),
    // Runs flotilla as others do: by its command line.
    allow("testbed", &["torrents", "cluster", "client"]),
    allow("tests", &["torrents", "testbed"]),
];

/// Each dependency between our crates that is not in the table.
pub(crate) fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (krate, manifest) in tree.crates() {
        let Some(allowed) = ALLOWED.iter().find(|allowed| allowed.krate == krate) else {
            findings.push(Finding {
                path: format!("{krate}/Cargo.toml"),
                line: 1,
                what: "this crate has no place among the others".to_owned(),
                mend: "add it to ALLOWED in tests/tests/tidy/arrows.rs, and to ARCHITECTURE.md"
                    .to_owned(),
            });
            continue;
        };
        for (line, name, is_of_tests) in dependencies(manifest) {
            let is_allowed = allowed.dependencies.contains(&name)
                || is_of_tests && allowed.of_tests.contains(&name);
            if !is_allowed {
                findings.push(Finding {
                    path: format!("{krate}/Cargo.toml"),
                    line,
                    what: format!("{krate} must not depend on {name}"),
                    mend: "move what it needs into a crate below both, see the table of crates in ARCHITECTURE.md"
                        .to_owned(),
                });
            }
        }
    }
    findings
}

/// Our own crates in a manifest: the line, the name without `flotilla-`, and whether only tests use it.
fn dependencies(manifest: &str) -> Vec<(usize, &str, bool)> {
    let mut found = Vec::new();
    let mut section = "";
    for (index, line) in manifest.lines().enumerate() {
        // `[dependencies.flotilla-client]` names one as well.
        let entry = if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            section.rsplit_once("dependencies.").map(|(_, name)| name)
        } else {
            section.ends_with("dependencies").then_some(line)
        };
        let name = entry.and_then(|entry| entry.split([' ', '=', '.']).next());
        if let Some(name) = name.and_then(|name| name.strip_prefix("flotilla-")) {
            found.push((index + 1, name, section.contains("dev-dependencies")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        let manifest = "[package]\n\n[dependencies]\nflotilla-torrents.workspace = true\n\
                        flotilla-seeder = { path = \"../seeder\" }\n\n[dev-dependencies]\nflotilla-seeder.workspace = true\n";
        let tree = Tree::of(&[("proxy/Cargo.toml", manifest), ("get/Cargo.toml", manifest)]);
        let found: Vec<_> = arrows(&tree)
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect();
        let expected = [
            ("get/Cargo.toml", 5),
            ("get/Cargo.toml", 8),
            ("proxy/Cargo.toml", 5),
        ];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn a_dependency_with_a_section_of_its_own_is_found() {
        let manifest = "[package]\n[dependencies.flotilla-client]\npath = \"../client\"\n\
                        [target.'cfg(unix)'.dependencies]\nflotilla-proxy = \"1\"\n";
        assert_eq!(
            dependencies(manifest),
            [(2, "client", false), (5, "proxy", false)]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let tree = Tree::of(&[("attic/Cargo.toml", "[package]\n")]);
        assert_eq!(arrows(&tree).len(), 1);
    }
}
