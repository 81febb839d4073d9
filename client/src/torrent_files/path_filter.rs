//! Which files of several are wanted, by globs.

use glob::{MatchOptions, Pattern};

/// Globs for paths, whose components are separated by `/`, or for names alone. `*` does not match a
/// `/` in a path, `**` does.
///
/// # Defaults
/// Every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathFilter {
    /// Only files whose path, or whose name, matches one of these; none: all.
    pub include: Vec<Pattern>,
    /// No files and directories whose path, or whose name, matches one of these.
    pub exclude: Vec<Pattern>,
}

impl PathFilter {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether the file or directory `name` at `path` is left out, with everything below it.
    pub fn excludes(&self, path: &str, name: &str) -> bool {
        matches(&self.exclude, path, name)
    }

    /// Whether the file `name` at `path` is wanted, when nothing excludes it.
    pub fn includes(&self, path: &str, name: &str) -> bool {
        self.include.is_empty() || matches(&self.include, path, name)
    }

    /// Whether the file at this path, in components, is wanted.
    pub fn selects<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> bool {
        let (mut whole, mut name) = (String::new(), "");
        for component in path {
            if !whole.is_empty() {
                whole.push('/');
            }
            whole.push_str(component);
            name = component;
            if self.excludes(&whole, name) {
                return false;
            }
        }
        self.includes(&whole, name)
    }
}

fn matches(patterns: &[Pattern], path: &str, name: &str) -> bool {
    let of_path = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let mut patterns = patterns.iter();
    patterns.any(|pattern| pattern.matches_with(path, of_path) || pattern.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> PathFilter {
        let patterns = |texts: &[&str]| {
            let patterns = texts.iter().map(|text| Pattern::new(text).unwrap());
            patterns.collect::<Vec<_>>()
        };
        PathFilter {
            include: patterns(include),
            exclude: patterns(exclude),
        }
    }

    #[test]
    fn globs_match_the_path_or_the_name() {
        let includes = |glob: &str, path: &[&str]| {
            let path = path.iter().copied();
            filter(&[glob], &[]).selects(path)
        };
        assert!(includes("*.iso", &["a", "b.iso"]));
        assert!(includes("a/*.iso", &["a", "b.iso"]));
        assert!(!includes("a/*.iso", &["a", "c", "b.iso"]));
        assert!(includes("a/**/*.iso", &["a", "c", "b.iso"]));
        assert!(!includes("*.iso", &["b.txt"]));
    }

    #[test]
    fn what_is_below_an_excluded_directory_is_excluded_even_if_it_is_included() {
        let both = filter(&["*.iso"], &["old", "a/b"]);
        assert!(both.selects(["a", "x.iso"]));
        assert!(!both.selects(["a", "b", "x.iso"]));
        assert!(!both.selects(["c", "old", "d", "x.iso"]));
        assert!(filter(&[], &["*.txt"]).selects(["a.iso"]));
        assert!(filter(&[], &[]).is_empty() && !both.is_empty());
    }
}
