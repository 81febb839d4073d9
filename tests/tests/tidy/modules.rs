//! The modules of each program and library, and in which file a path ends.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::finding::Finding;
use crate::source_text::{Import, Source, read};
use crate::tree::{Tree, folder, join};

/// A module's path from the root of its program: empty for the root itself.
pub(crate) type ModulePath = Vec<String>;

/// More `use` of `use` than this is taken for a circle.
const MAX_IMPORT_DEPTH: usize = 16;

/// A library, a program, or a test with all its modules.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) modules: BTreeMap<ModulePath, Module<'a>>,
}

#[derive(Debug)]
pub(crate) struct Module<'a> {
    pub(crate) file: &'a str,
    /// Compiled for tests only.
    pub(crate) is_test: bool,
    /// Of which this module is one scope.
    pub(crate) source: Rc<Source>,
    /// The module's path within its file.
    pub(crate) scope: Vec<String>,
}

/// Where a path ends: a module, or an item of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) module: ModulePath,
    pub(crate) item: Option<String>,
}

impl<'a> Program<'a> {
    /// Reads a program from its root, `src/lib.rs` for one.
    pub(crate) fn read(tree: &'a Tree, root: &str) -> Self {
        let mut program = Self {
            modules: BTreeMap::new(),
        };
        program.add_file(tree, root, &[], folder(root), false);
        program
    }

    /// `below` is the folder that the file's modules are in.
    fn add_file(
        &mut self,
        tree: &'a Tree,
        file: &str,
        path: &[String],
        below: &str,
        is_test: bool,
    ) {
        let found = tree.files().find(|(name, _)| *name == file);
        let Some((file, text)) = found.filter(|_| !self.modules.contains_key(path)) else {
            return;
        };
        let source = Rc::new(read(text));
        let module = |scope| Module {
            file,
            is_test,
            source: Rc::clone(&source),
            scope,
        };
        self.modules.insert(path.to_vec(), module(Vec::new()));
        for declared in &source.modules {
            let inner = [
                declared.scope.as_slice(),
                std::slice::from_ref(&declared.name),
            ]
            .concat();
            let child = [path, &inner].concat();
            if declared.is_inline {
                if !declared.is_test {
                    self.modules.insert(child, module(inner));
                }
                continue;
            }
            let is_test = is_test || declared.is_test;
            let places = match &declared.file {
                Some(named) => {
                    let named = join(folder(file), named).into_iter();
                    named
                        .map(|file| (file.clone(), folder(&file).to_owned()))
                        .collect()
                }
                None => {
                    let own = format!("{below}/{}", inner.join("/"));
                    vec![
                        (format!("{own}.rs"), own.clone()),
                        (format!("{own}/mod.rs"), own),
                    ]
                }
            };
            for (file, below) in places {
                self.add_file(tree, &file, &child, &below, is_test);
            }
        }
    }

    /// The imports of one module.
    pub(crate) fn imports(&self, path: &[String]) -> impl Iterator<Item = &Import> {
        let module = self.modules.get(path);
        module.into_iter().flat_map(|module| {
            module
                .source
                .imports
                .iter()
                .filter(|import| import.scope == module.scope)
        })
    }

    fn defines(&self, path: &[String], name: &str) -> bool {
        self.modules.get(path).is_some_and(|module| {
            module
                .source
                .items
                .iter()
                .any(|(scope, item)| *scope == module.scope && item == name)
        })
    }

    /// Where a path leads that stands in module `from`; none if it leads out of the program.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> Option<Target> {
        self.resolve_within(from, path, 0)
    }

    fn resolve_within(&self, from: &[String], path: &[String], depth: usize) -> Option<Target> {
        if depth > MAX_IMPORT_DEPTH {
            return None;
        }
        let mut at = from.to_vec();
        let mut is_relative = true;
        for (index, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()?),
                _ => match self.member(&at, name, is_relative && index == 0, depth)? {
                    Target { module, item: None } => at = module,
                    item => return Some(item),
                },
            }
            is_relative = false;
        }
        Some(Target {
            module: at,
            item: None,
        })
    }

    /// What a name is in a module. The first name of a path may also be another crate's, or a name that is
    /// everywhere: it counts only where the module is seen to have it.
    fn member(
        &self,
        at: &[String],
        name: &str,
        must_be_seen: bool,
        depth: usize,
    ) -> Option<Target> {
        let child = [at, &[name.to_owned()]].concat();
        if self.modules.contains_key(&child) {
            return Some(Target {
                module: child,
                item: None,
            });
        }
        if let Some(import) = self.imports(at).find(|import| import.name == name) {
            // `use name::…` of a crate that is called as what it brings in would lead back here.
            let is_itself = import.path.first().is_some_and(|first| first == name);
            return if is_itself {
                None
            } else {
                self.resolve_within(at, &import.path, depth + 1)
            };
        }
        if !self.defines(at, name) {
            for import in self.imports(at).filter(|import| import.name.is_empty()) {
                let Some(Target { module, item: None }) =
                    self.resolve_within(at, &import.path, depth + 1)
                else {
                    continue;
                };
                if module != at
                    && let Some(found) = self.member(&module, name, true, depth + 1)
                {
                    return Some(found);
                }
            }
            if must_be_seen {
                return None;
            }
        }
        Some(Target {
            module: at.to_vec(),
            item: Some(name.to_owned()),
        })
    }
}

/// The roots below `src/` of a crate: its library and its programs.
pub(crate) fn roots(tree: &Tree, krate: &str) -> Vec<String> {
    let src = format!("{krate}/src");
    let mut roots: Vec<String> = ["lib.rs", "main.rs"]
        .map(|name| format!("{src}/{name}"))
        .into();
    let within = |path: &str| {
        path.strip_prefix(&src)?
            .strip_prefix('/')
            .map(|path| is_root_of(path, "bin"))
    };
    let programs = tree.files().filter(|(path, _)| within(path) == Some(true));
    roots.extend(programs.map(|(path, _)| path.to_owned()));
    roots.retain(|root| tree.text(root).is_some());
    roots
}

/// Tests, examples, the build script, and what the manifest names.
fn other_roots(tree: &Tree, krate: &str, manifest: &str) -> Vec<String> {
    let mut roots = vec![format!("{krate}/build.rs")];
    for (path, _) in tree.files() {
        let within = path
            .strip_prefix(krate)
            .and_then(|path| path.strip_prefix('/'));
        if within.is_some_and(|path| {
            ["tests", "examples", "benches"]
                .iter()
                .any(|kind| is_root_of(path, kind))
        }) {
            roots.push(path.to_owned());
        }
    }
    let named = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix("\""));
    roots.extend(
        named
            .filter(|path| path.ends_with(".rs"))
            .filter_map(|path| join(krate, path)),
    );
    roots
}

/// `kind/name.rs` or `kind/name/main.rs`.
fn is_root_of(path: &str, kind: &str) -> bool {
    let inner = path
        .strip_prefix(kind)
        .and_then(|path| path.strip_prefix('/'));
    inner.is_some_and(|inner| match inner.split_once('/') {
        None => inner.ends_with(".rs"),
        Some((_, file)) => file == "main.rs",
    })
}

/// Rust files that belong to no program.
pub(crate) fn dead_files(tree: &Tree) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for (krate, manifest) in tree.crates() {
        let all = roots(tree, krate)
            .into_iter()
            .chain(other_roots(tree, krate, manifest));
        for root in all {
            reached.extend(
                Program::read(tree, &root)
                    .modules
                    .into_values()
                    .map(|module| module.file),
            );
        }
    }
    let dead = tree
        .ending(&[".rs"])
        .filter(|(path, _)| !reached.contains(path));
    let found = dead.map(|(path, _)| Finding {
        path: path.to_owned(),
        line: 1,
        what: "no program or test has this file as a module".to_owned(),
        mend: "declare it with `mod`, or remove it".to_owned(),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split("::")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn file_of(tree: &Tree, from: &str, named: &str) -> Option<String> {
        let program = Program::read(tree, "a/src/lib.rs");
        let target = program.resolve(&path(from), &path(named))?;
        Some(program.modules[&target.module].file.to_owned())
    }

    #[test]
    fn a_path_ends_where_the_item_is_defined() {
        let tree = Tree::of(&[
            (
                "a/src/lib.rs",
                "mod b; mod d; pub use self::b::C as X; mod inline { pub(crate) struct I; }",
            ),
            (
                "a/src/b/mod.rs",
                "mod c; pub use self::c::C; pub use c::deep; pub struct B;",
            ),
            ("a/src/b/c.rs", "pub struct C; pub mod deep;"),
            ("a/src/b/c/deep.rs", "pub use super::super::*;"),
            ("a/src/d.rs", "use crate::b; use std::fmt; use crate::b::*;"),
        ]);
        let file = |from, named| file_of(&tree, from, named);
        assert_eq!(file("d", "crate::b::C").unwrap(), "a/src/b/c.rs");
        assert_eq!(file("d", "crate::X").unwrap(), "a/src/b/c.rs");
        assert_eq!(file("d", "b::B::new").unwrap(), "a/src/b/mod.rs");
        assert_eq!(file("d", "b::deep::x").unwrap(), "a/src/b/c/deep.rs");
        assert_eq!(file("d", "b::deep::B").unwrap(), "a/src/b/mod.rs");
        assert_eq!(file("d", "C::new").unwrap(), "a/src/b/c.rs");
        assert_eq!(file("d", "crate::inline::I").unwrap(), "a/src/lib.rs");
        assert_eq!(file("b::c", "super::super::d").unwrap(), "a/src/d.rs");
        assert_eq!(file("d", "fmt::Display"), None);
        assert_eq!(file("d", "serde::Serialize"), None);
    }

    #[test]
    fn a_file_without_a_mod_is_dead() {
        let tree = Tree::of(&[
            (
                "a/Cargo.toml",
                "[package]\n[[bin]]\npath = \"odd/place.rs\"\n",
            ),
            ("a/src/main.rs", "mod b; #[cfg(test)] mod tests;"),
            ("a/src/b.rs", "// mod c;\n"),
            ("a/src/c.rs", ""),
            (
                "a/src/tests.rs",
                "#[path = \"../shared/fakes.rs\"] mod fakes;",
            ),
            ("a/shared/fakes.rs", ""),
            ("a/src/bin/d/main.rs", "mod e;"),
            ("a/src/bin/d/e.rs", ""),
            ("a/tests/f/main.rs", "mod g;"),
            ("a/tests/f/g.rs", ""),
            ("a/tests/f/h.rs", ""),
            ("a/odd/place.rs", ""),
        ]);
        let dead: Vec<_> = dead_files(&tree)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(dead, ["a/src/c.rs", "a/tests/f/h.rs"]);
    }
}
