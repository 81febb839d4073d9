//! What one source file says of modules: which it has, what it imports, what it names by a path.

use crate::tokens::{Token, tokens};

/// One file. Scopes are the modules written out within it: empty for the file's own.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) modules: Vec<Declared>,
    pub(crate) imports: Vec<Import>,
    pub(crate) paths: Vec<Named>,
    /// Names of functions, types, traits, constants and macros.
    pub(crate) items: Vec<(Vec<String>, String)>,
    /// Single names in use, outside of imports.
    pub(crate) names: Vec<(Vec<String>, String)>,
}

/// `mod name;` or `mod name { … }`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) scope: Vec<String>,
    pub(crate) name: String,
    /// Of `#[path = "…"]`.
    pub(crate) file: Option<String>,
    pub(crate) is_inline: bool,
    pub(crate) is_test: bool,
}

/// One name that a `use` brings in, or a `*`, of which `name` is empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) scope: Vec<String>,
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) is_public: bool,
    pub(crate) line: usize,
}

/// A path of at least two names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) scope: Vec<String>,
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

const ITEMS: [&str; 8] = [
    "fn", "struct", "enum", "trait", "type", "const", "static", "union",
];

/// Words that an item can begin with; anything else behind an attribute is a field, an arm or an expression.
const ITEM_BEGINS: [&str; 17] = [
    "pub",
    "mod",
    "use",
    "fn",
    "struct",
    "enum",
    "trait",
    "type",
    "const",
    "static",
    "union",
    "impl",
    "async",
    "unsafe",
    "extern",
    "macro_rules",
    "let",
];

/// Reads a file. Of what is compiled for tests only, nothing but the modules is kept.
pub(crate) fn read(text: &str) -> Source {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        depth: 0,
        scopes: Vec::new(),
        is_test: false,
        file: None,
        source: Source::default(),
    };
    while reader.at < reader.tokens.len() {
        reader.step();
    }
    reader.source
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Of braces.
    depth: usize,
    /// The modules that are open, and the depth outside of them.
    scopes: Vec<(usize, String)>,
    /// What the attributes before the next item say.
    is_test: bool,
    file: Option<String>,
    source: Source,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn scope(&self) -> Vec<String> {
        self.scopes.iter().map(|(_, name)| name.clone()).collect()
    }

    fn step(&mut self) {
        if self.text(self.at) == "#"
            && (self.text(self.at + 1) == "[" || self.text(self.at + 2) == "[")
        {
            self.attribute();
            return;
        }
        let (is_test, file) = (std::mem::take(&mut self.is_test), self.file.take());
        if self.module(is_test, file) {
            return;
        }
        if is_test {
            self.skip_item();
            return;
        }
        let token = self.tokens[self.at];
        let after = self.text(self.at + 1).to_owned();
        match token.text {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self
                    .scopes
                    .last()
                    .is_some_and(|(outside, _)| *outside == self.depth)
                {
                    self.scopes.pop();
                }
            }
            // `use<'a>` is not an import.
            "use" if after != "<" => {
                self.import();
                return;
            }
            "macro_rules" => {
                let name = self.text(self.at + 2).to_owned();
                self.source.items.push((self.scope(), name));
            }
            keyword if ITEMS.contains(&keyword) => self.source.items.push((self.scope(), after)),
            _ if token.is_name() => {
                self.path();
                return;
            }
            _ => {}
        }
        self.at += 1;
    }

    /// `#[…]` or `#![…]`.
    fn attribute(&mut self) {
        let is_of_file = self.text(self.at + 1) == "!";
        let begin = self.at + if is_of_file { 3 } else { 2 };
        let mut depth = 1;
        let mut end = begin;
        while depth > 0 && end < self.tokens.len() {
            match self.text(end) {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            end += 1;
        }
        let words: Vec<_> = self.tokens[begin..end]
            .iter()
            .map(|token| token.text)
            .collect();
        match words.as_slice() {
            ["cfg", condition @ ..] => {
                self.is_test |= condition.contains(&"test") && !condition.contains(&"not");
            }
            ["test", "]"] => self.is_test = true,
            ["path", "=", path, ..] => self.file = Some(path.trim_matches('"').to_owned()),
            _ => {}
        }
        self.at = end;
        if is_of_file && std::mem::take(&mut self.is_test) {
            self.at = self.tokens.len();
        }
    }

    /// Where the item's own keyword is.
    fn behind_visibility(&self) -> usize {
        let is_visibility = |at| {
            matches!(
                self.text(at),
                "pub" | "(" | "crate" | "super" | "in" | "::" | ")"
            )
        };
        let mut at = self.at;
        while self.text(self.at) == "pub" && is_visibility(at) {
            at += 1;
        }
        at
    }

    /// Whether a module begins here, or behind its visibility.
    fn module(&mut self, is_test: bool, file: Option<String>) -> bool {
        let at = if is_test {
            self.behind_visibility()
        } else {
            self.at
        };
        let is_inline = self.text(at + 2) == "{";
        if self.text(at) != "mod" || !(is_inline || self.text(at + 2) == ";") {
            // A visibility comes between the attribute and the module.
            if matches!(self.text(at), "pub" | "(" | "crate" | "super" | ")") && !is_test {
                self.file = file;
            }
            return false;
        }
        let name = self.text(at + 1).to_owned();
        let scope = self.scope();
        self.source.modules.push(Declared {
            scope,
            name: name.clone(),
            file,
            is_inline,
            is_test,
        });
        self.at = at + 3;
        if is_inline && is_test {
            self.at = at + 2;
            self.skip_item();
        } else if is_inline {
            self.scopes.push((self.depth, name));
            self.depth += 1;
        }
        true
    }

    /// Behind an item: its `;` or its block; behind a field, an arm or an expression: its comma too.
    fn skip_item(&mut self) {
        let is_item = ITEM_BEGINS.contains(&self.text(self.at)) || self.text(self.at) == "{";
        let is_import = self.text(self.behind_visibility()) == "use";
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "{" | "(" | "[" => depth += 1,
                // The end of what the field or arm is in.
                "}" | ")" | "]" if depth == 0 => return,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 && !is_import {
                        self.at += 1;
                        return;
                    }
                }
                ";" if depth == 0 => {
                    self.at += 1;
                    return;
                }
                "," if depth == 0 && !is_item => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn import(&mut self) {
        let is_public = self.at > 0 && matches!(self.text(self.at - 1), "pub" | ")");
        self.at += 1;
        self.import_tree(&[], is_public);
        while self.at < self.tokens.len() && self.text(self.at) != ";" {
            self.at += 1;
        }
        self.at += 1;
    }

    fn import_tree(&mut self, before: &[String], is_public: bool) {
        let mut path = before.to_vec();
        loop {
            let token = self.tokens.get(self.at).copied();
            let Some(Token { text, line }) = token else {
                return;
            };
            match text {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(self.at), "}" | ";" | "") {
                        self.import_tree(&path, is_public);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    self.push_import(String::new(), path, is_public, line);
                    return;
                }
                _ => {
                    self.at += 1;
                    // `self` in braces is the path before them.
                    if text != "self" || before.is_empty() {
                        path.push(text.to_owned());
                    }
                    if self.text(self.at) == "::" {
                        continue;
                    }
                    let mut name = path.last().cloned().unwrap_or_default();
                    if self.text(self.at) == "as" {
                        name = self.text(self.at + 1).to_owned();
                        self.at += 2;
                    }
                    self.push_import(name, path, is_public, line);
                    return;
                }
            }
        }
    }

    fn push_import(&mut self, name: String, path: Vec<String>, is_public: bool, line: usize) {
        let scope = self.scope();
        self.source.imports.push(Import {
            scope,
            name,
            path,
            is_public,
            line,
        });
    }

    /// A name, or names with `::` between them.
    fn path(&mut self) {
        let begin = self.at;
        let line = self.tokens[begin].line;
        let mut path = vec![self.text(begin).to_owned()];
        while self.text(self.at + 1) == "::"
            && self.tokens.get(self.at + 2).is_some_and(Token::is_name)
        {
            self.at += 2;
            path.push(self.text(self.at).to_owned());
        }
        self.at += 1;
        let before = if begin == 0 { "" } else { self.text(begin - 1) };
        // `pub(in path)` names a scope and uses nothing of it.
        let is_scope = before == "in" && begin > 1 && self.text(begin - 2) == "(";
        if matches!(before, "::" | ".") || is_scope {
            return;
        }
        let scope = self.scope();
        if path.len() > 1 {
            self.source.paths.push(Named {
                scope: scope.clone(),
                path: path.clone(),
                line,
            });
        }
        self.source
            .names
            .extend(path.into_iter().next().map(|first| (scope, first)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<(String, String)> {
        let found = read(text).imports.into_iter();
        found
            .map(|import| (import.name, import.path.join("::")))
            .collect()
    }

    fn paths(text: &str) -> Vec<String> {
        read(text)
            .paths
            .iter()
            .map(|named| named.path.join("::"))
            .collect()
    }

    #[test]
    fn each_name_of_an_import_has_its_whole_path() {
        let found = imports("pub use crate::a::{self, b::{C, D as E}, f::*};\nuse super::G;");
        let expected = [
            ("a", "crate::a"),
            ("C", "crate::a::b::C"),
            ("E", "crate::a::b::D"),
            ("", "crate::a::f"),
            ("G", "super::G"),
        ];
        let expected = expected.map(|(name, path)| (name.to_owned(), path.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn paths_are_found_in_expressions_types_and_macros() {
        let text =
            "fn a(b: &crate::b::B) -> c::C<d::D> { assert!(self::e() == x.f::<g::G>()); <H>::i() }";
        assert_eq!(
            paths(text),
            ["crate::b::B", "c::C", "d::D", "self::e", "g::G"]
        );
    }

    #[test]
    fn the_scope_of_a_visibility_is_no_use() {
        assert_eq!(
            paths("pub(in crate::a) fn b() {} pub(crate) struct C(pub(super) u8);"),
            [""; 0]
        );
    }

    #[test]
    fn what_is_for_tests_only_counts_for_nothing_but_modules() {
        let text = "
            #[cfg(test)] use crate::a::{A, B};
            #[cfg(all(test, unix))] fn b(c: [u8; 4]) { crate::d::e() }
            struct F { #[cfg(test)] g: crate::h::I, j: crate::k::L }
            #[cfg(test)] mod tests { use crate::m::N; }
            #[cfg(test)] pub(crate) mod scenario;
            #[cfg(not(test))] mod o;
            fn p() { crate::q::r() }";
        let source = read(text);
        assert_eq!(source.imports, []);
        let named: Vec<_> = source
            .paths
            .iter()
            .map(|named| named.path.join("::"))
            .collect();
        assert_eq!(named, ["crate::k::L", "crate::q::r"]);
        let modules: Vec<_> = source
            .modules
            .iter()
            .map(|m| (m.name.as_str(), m.is_test))
            .collect();
        assert_eq!(modules, [("tests", true), ("scenario", true), ("o", false)]);
    }

    #[test]
    fn modules_within_a_file_are_scopes() {
        let source = read(
            "mod a { mod b { use super::C; } use super::D; } use e::F; #[path = \"g.rs\"] pub mod h;",
        );
        let scopes: Vec<_> = source
            .imports
            .iter()
            .map(|import| import.scope.join("::"))
            .collect();
        assert_eq!(scopes, ["a::b", "a", ""]);
        assert_eq!(source.modules[2].file.as_deref(), Some("g.rs"));
    }
}
