//! Files of one program that use each other in a ring: none of them can be read before the others.
//!
//! A file uses another when it names something that is defined there: imported, or by its path. To declare a
//! module and to export its names again is no use of it. What is compiled for tests only does not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::Finding;
use crate::modules::{ModulePath, Program, roots};
use crate::tree::Tree;

/// A ring that stays, and why.
pub(crate) struct AllowedRing {
    /// All of its files.
    pub(crate) files: &'static [&'static str],
    pub(crate) reason: &'static str,
}

/// Rings that are true ones. ARCHITECTURE.md says each.
pub(crate) const ALLOWED: &[AllowedRing] = &[AllowedRing {
    files: &[
        "proxy/src/front/connection.rs",
        "proxy/src/front/dispatch.rs",
    ],
    reason: "an intercepted CONNECT becomes a connection whose requests are dispatched again",
}];

/// From a file to one that it uses: where, and by which path.
type Uses<'a> = BTreeMap<&'a str, BTreeMap<&'a str, (usize, String)>>;

/// Each ring that is not allowed, and each allowed one that is no longer there.
pub(crate) fn rings(tree: &Tree, allowed: &[AllowedRing]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut met = BTreeSet::new();
    for (krate, _) in tree.crates() {
        for root in roots(tree, krate) {
            let program = Program::read(tree, &root);
            let uses = uses(&program);
            for ring in components(&uses) {
                let is_it = |allowed: &&AllowedRing| {
                    allowed.files.iter().copied().collect::<BTreeSet<_>>() == ring
                };
                match allowed.iter().position(|allowed| is_it(&allowed)) {
                    Some(index) => drop(met.insert(index)),
                    None => findings.push(describe(&uses, &ring)),
                }
            }
        }
    }
    for (index, AllowedRing { files, reason }) in allowed.iter().enumerate() {
        if !met.contains(&index) {
            findings.push(Finding {
                path: files.first().copied().unwrap_or("Cargo.toml").to_owned(),
                line: 1,
                what: format!("the allowed ring of {} is not there as it is listed ({reason})", files.join(", ")),
                mend: "take it out of ALLOWED in tests/tests/tidy/rings.rs, or list its files of today".to_owned(),
            });
        }
    }
    findings
}

fn uses<'a>(program: &Program<'a>) -> Uses<'a> {
    let mut uses = Uses::new();
    for (path, module) in &program.modules {
        if module.is_test {
            continue;
        }
        let mut add = |from: &ModulePath, named: &[String], line: usize| {
            let Some(target) = program.resolve(from, named) else {
                return;
            };
            let file = program.modules[&target.module].file;
            // A module that is imported is used by the paths that begin with it.
            if target.item.is_some() && file != module.file {
                let found = || (line, named.join("::"));
                uses.entry(module.file)
                    .or_default()
                    .entry(file)
                    .or_insert_with(found);
            }
        };
        let source = &module.source;
        let is_named = |name: &String| {
            source
                .names
                .iter()
                .any(|(scope, used)| *scope == module.scope && used == name)
        };
        for import in program.imports(path) {
            if import.name.is_empty() {
                // What is everywhere in it; `*` of an enum is found by the enum.
                add(
                    path,
                    &[import.path.as_slice(), &["*".to_owned()]].concat(),
                    import.line,
                );
            } else if !import.is_public || is_named(&import.name) {
                add(path, &import.path, import.line);
            }
        }
        for named in source
            .paths
            .iter()
            .filter(|named| named.scope == module.scope)
        {
            add(path, &named.path, named.line);
        }
    }
    uses
}

/// Sets of at least two files each of which leads to each other.
fn components<'a>(uses: &Uses<'a>) -> Vec<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for used in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(*used) {
                    next.push(used);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|file| (*file, reached(file))).collect();
    let mut found = BTreeSet::new();
    for (file, reached) in &all {
        let back = |other: &&&str| {
            all.get(**other)
                .is_some_and(|reached| reached.contains(file))
        };
        let ring: BTreeSet<_> = reached.iter().filter(back).copied().collect();
        if ring.len() > 1 {
            found.insert(ring);
        }
    }
    found.into_iter().collect()
}

fn describe(uses: &Uses<'_>, ring: &BTreeSet<&str>) -> Finding {
    let mut edges = Vec::new();
    for (from, used) in uses.iter().filter(|(from, _)| ring.contains(*from)) {
        for (to, (line, named)) in used.iter().filter(|(to, _)| ring.contains(*to)) {
            edges.push((
                *from,
                *line,
                format!("    {from}:{line} uses {to} ({named})"),
            ));
        }
    }
    let (path, line) = edges
        .first()
        .map_or(("", 1), |(from, line, _)| (*from, *line));
    let lines: Vec<_> = edges.iter().map(|(_, _, text)| text.as_str()).collect();
    Finding {
        path: path.to_owned(),
        line,
        what: format!("{} files use each other in a ring\n{}", ring.len(), lines.join("\n")),
        mend: "move what both need into a file of its own, or write the method beside what it returns; a ring \
               that is a true one goes into ALLOWED in tests/tests/tidy/rings.rs, with its reason"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATE: (&str, &str) = ("a/Cargo.toml", "[package]\n");

    fn files_of_rings(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let tree = Tree::of(&[&[CRATE], files].concat());
        let program = Program::read(&tree, "a/src/lib.rs");
        let rings = components(&uses(&program)).into_iter();
        rings
            .map(|ring| ring.into_iter().map(str::to_owned).collect())
            .collect()
    }

    #[test]
    fn a_ring_is_found_through_a_name_exported_again_and_a_path_in_a_body() {
        let found = files_of_rings(&[
            (
                "a/src/lib.rs",
                "mod b; mod c; mod d; mod e; pub use self::d::D;",
            ),
            ("a/src/b.rs", "use crate::c::C;\npub struct B;"),
            ("a/src/c.rs", "pub struct C; fn f() -> crate::D { todo() }"),
            ("a/src/d.rs", "use crate::b; pub struct D(b::B);"),
            ("a/src/e.rs", "use crate::b::B;"),
        ]);
        assert_eq!(found, [["a/src/b.rs", "a/src/c.rs", "a/src/d.rs"]]);
    }

    #[test]
    fn a_parent_that_calls_its_child_and_is_used_by_it_is_a_ring() {
        let lib = ("a/src/lib.rs", "mod b;");
        let parent = "mod c; pub struct B; fn f() { c::g() }";
        let found = files_of_rings(&[
            lib,
            ("a/src/b/mod.rs", parent),
            ("a/src/b/c.rs", "use super::B; pub fn g() {}"),
        ]);
        assert_eq!(found, [["a/src/b/c.rs", "a/src/b/mod.rs"]]);
        let parent = "mod c; pub use c::C; use c::D; pub struct B; fn f(d: D) {}";
        let found = files_of_rings(&[
            lib,
            ("a/src/b/mod.rs", parent),
            ("a/src/b/c.rs", "use super::B; pub struct C; pub struct D;"),
        ]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn declarations_exports_tests_comments_and_literals_make_no_ring() {
        let found = files_of_rings(&[
            ("a/src/lib.rs", "mod b; mod c; pub use b::B; pub struct Root; #[cfg(test)] mod tests;"),
            ("a/src/b.rs", "use crate::Root; use crate::c::C; pub struct B;"),
            (
                "a/src/c.rs",
                "//! See crate::b::B.\npub struct C; const T: &str = \"crate::b::B\"; /* crate::b::B */
                #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;",
            ),
            ("a/src/tests.rs", "use crate::b::B; use crate::c::C;"),
        ]);
        assert_eq!(found, [[""; 0]; 0]);
    }

    #[test]
    fn an_export_that_the_file_uses_itself_counts() {
        let found = files_of_rings(&[
            (
                "a/src/lib.rs",
                "mod b; pub use b::B; pub struct Root; fn f(b: B) {}",
            ),
            ("a/src/b.rs", "use crate::Root; pub struct B;"),
        ]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_ring_is_allowed_by_all_its_files_and_no_longer_than_it_is_there() {
        let tree = Tree::of(&[
            CRATE,
            ("a/src/lib.rs", "mod b; mod c;"),
            ("a/src/b.rs", "use crate::c::C; pub struct B;"),
            ("a/src/c.rs", "\nuse crate::b::B; pub struct C;"),
        ]);
        let found = rings(&tree, &[]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .what
                .contains("a/src/c.rs:2 uses a/src/b.rs (crate::b::B)"),
            "{}",
            found[0]
        );
        let allowed = |files| AllowedRing {
            files,
            reason: "a true one",
        };
        assert_eq!(rings(&tree, &[allowed(&["a/src/b.rs", "a/src/c.rs"])]), []);
        let wrong = rings(&tree, &[allowed(&["a/src/b.rs", "a/src/d.rs"])]);
        assert_eq!(wrong.len(), 2);
    }
}
