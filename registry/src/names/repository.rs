//! Names of repositories.

use std::fmt;
use std::str::FromStr;

/// Clients may limit host and name to 255 characters together (OCI distribution-spec, "Pulling
/// manifests").
const MAX_LENGTH: usize = 255;

/// The name of a repository within a registry: `team/app`.
///
/// OCI distribution-spec, "Pulling manifests":
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, at most 255 characters.
/// Such a name has no dot segment, no empty component and nothing to decode, so every registry and
/// every URL parser reads it alike.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// Text is not the name of a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "repository {0:?} is not lower-case letters and digits, with '.', '_', '__', '-' or '/' between them, of at most {MAX_LENGTH} characters"
)]
pub struct RepositoryError(String);

impl Repository {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its name begins with the whole of `parent`'s and has further components.
    pub fn is_below(&self, parent: &Self) -> bool {
        let rest = self.0.strip_prefix(parent.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for Repository {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= MAX_LENGTH && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RepositoryError(text.chars().take(MAX_LENGTH).collect()))
        }
    }
}

fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    let are_separators = bytes.split(|byte| is_word(*byte)).all(|run| {
        matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-')
    });
    is_edge(bytes.first()) && is_edge(bytes.last()) && are_separators
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Repository {
    type Error = RepositoryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification_are_read() {
        let longest = "a".repeat(MAX_LENGTH);
        for name in [
            "a",
            "0",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "a/b/c",
            "team/a_b/c--d.e__f",
            "v2",
            "a/blobs/b",
            "a.b-c_d",
            &longest,
        ] {
            let repository: Repository = name.parse().unwrap();
            assert_eq!(repository.as_str(), name);
            assert_eq!(repository.to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let longer = "a".repeat(MAX_LENGTH + 1);
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/./b",
            "a..b",
            "a___b",
            "a._b",
            "a-.b",
            "a-_b",
            "-a",
            "a-",
            "_a",
            "a_",
            ".a",
            "a.",
            "A",
            "a/B",
            "a b",
            "a%2Fb",
            "a\\b",
            "a:b",
            "a@b",
            "a?b",
            "a#b",
            "\u{e9}",
            "a\u{2215}b",
            "a\n",
            "a\0",
            &longer,
        ] {
            assert!(name.parse::<Repository>().is_err(), "{name:?}");
            let json = serde_json::to_string(name).unwrap();
            assert!(serde_json::from_str::<Repository>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn below_is_by_whole_components() {
        let is_below = |name: &str, parent: &str| {
            let name: Repository = name.parse().unwrap();
            name.is_below(&parent.parse().unwrap())
        };
        assert!(is_below("public/app", "public") && is_below("public/a/b", "public"));
        for name in ["public", "publicity/app", "private/public/app"] {
            assert!(!is_below(name, "public"), "{name}");
        }
    }
}
