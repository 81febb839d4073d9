//! The configuration file: what it says on which line, and everything that is wrong with it.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::ConfigErrors;
use super::proxy::ProxyOptions;
use super::redacted::redacted;
use super::registries::RegistryOptions;
use super::section::{Arity, OptionInfo, SectionInfo};
use super::suggestion;
use super::supernode::SupernodeOptions;
use super::values::meaning_of;

/// Read when no `--config` is given and it exists.
pub(crate) const DEFAULT_PATH: &str = "/etc/flotilla/flotilla.toml";
/// A file larger than this is no configuration.
const MAX_BYTES: u64 = 1024 * 1024;

/// What a file says. Every value has its option's form.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    entries: Vec<Entry>,
}

/// An option that the file sets.
#[derive(Debug)]
struct Entry {
    section: &'static str,
    key: String,
    values: Vec<FileValue>,
}

/// A value as its flag takes it, and its line.
#[derive(Clone, Debug)]
pub(crate) struct FileValue {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// All sections that a file may have.
pub(crate) fn sections() -> [SectionInfo; 3] {
    [
        SectionInfo::of::<SupernodeOptions>(),
        SectionInfo::of::<ProxyOptions>(),
        SectionInfo::of::<RegistryOptions>(),
    ]
}

impl ConfigFile {
    /// Reads the file at `path`, or the default one. The default file may be absent.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let is_default = path.is_none();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match read_text(path) {
            Err(error) if is_default && error.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read,
        };
        let text =
            text.map_err(|error| ConfigErrors(vec![format!("{}: {error}", path.display())]))?;
        Self::parse(path, &text)
    }

    /// # Errors
    /// Everything that is wrong, by line.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let sections = sections();
        let mut parser = Parser {
            text,
            sections: &sections,
            entries: Vec::new(),
            errors: Vec::new(),
        };
        parser.parse();
        let Parser {
            entries,
            mut errors,
            ..
        } = parser;
        if errors.is_empty() {
            return Ok(Self {
                path: path.to_owned(),
                entries,
            });
        }
        errors.sort_by_key(|(line, _)| *line);
        let errors = errors
            .into_iter()
            .map(|(line, wrong)| format!("{}:{line}: {wrong}", path.display()));
        Err(ConfigErrors(errors.collect()))
    }

    /// What the file says about an option.
    pub(crate) fn values(&self, section: &str, key: &str) -> Option<&[FileValue]> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.section == section && entry.key == key)?;
        Some(&entry.values)
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let error = "larger than 1 MiB, which no configuration is";
        return Err(std::io::Error::new(ErrorKind::InvalidData, error));
    }
    Ok(text)
}

struct Parser<'a> {
    text: &'a str,
    sections: &'a [SectionInfo],
    entries: Vec<Entry>,
    /// With their lines.
    errors: Vec<(usize, String)>,
}

impl Parser<'_> {
    fn parse(&mut self) {
        let (table, malformed) = DeTable::parse_recoverable(self.text);
        for error in malformed {
            let line = self.line(error.span().unwrap_or_default());
            // One mistake of syntax is often several errors.
            if !self.has_error_on(line) {
                let wrong = format!("malformed TOML: {}", error.message());
                self.errors.push((line, wrong));
            }
        }
        for (name, value) in table.get_ref() {
            let line = self.line(name.span());
            if self.has_error_on(line) {
                continue;
            }
            match (
                self.sections.iter().find(|s| s.name == name.get_ref()),
                value.get_ref(),
            ) {
                (Some(section), DeValue::Table(keys)) => self.section(section, keys),
                (Some(section), _) => {
                    let wrong = format!("{0}: expected a section, [{0}]", section.name);
                    self.errors.push((line, wrong));
                }
                (None, DeValue::Table(_)) => {
                    let wrong = suggestion::unknown_section(name.get_ref(), self.sections);
                    self.errors.push((line, wrong));
                }
                (None, _) => {
                    let wrong = suggestion::outside_sections(name.get_ref(), self.sections);
                    self.errors.push((line, wrong));
                }
            }
        }
    }

    fn section(&mut self, section: &SectionInfo, keys: &DeTable<'_>) {
        for (key, value) in keys {
            let line = self.line(key.span());
            if self.has_error_on(line) || self.has_error_on(self.line(value.span())) {
                continue;
            }
            let Some(option) = section.option(key.get_ref()) else {
                let wrong = suggestion::unknown_key(key.get_ref(), section, self.sections);
                self.errors.push((line, wrong));
                continue;
            };
            let values = self.values(section, option, value);
            self.entries.push(Entry {
                section: section.name,
                key: option.key.clone(),
                values,
            });
        }
    }

    /// The values of an option that have its form; what is wrong with the others becomes errors.
    fn values(
        &mut self,
        section: &SectionInfo,
        option: &OptionInfo,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<FileValue> {
        let each: Vec<&Spanned<DeValue<'_>>> = match (option.arity, value.get_ref()) {
            (Arity::List, DeValue::Array(array)) => array.iter().collect(),
            (Arity::List, _) => {
                self.mistake(section, option, value, "expected a list, [\"…\", \"…\"]");
                return Vec::new();
            }
            _ => vec![value],
        };
        let mut values = Vec::new();
        for value in each {
            let Some(text) = text_of(option.arity, value.get_ref()) else {
                self.mistake(section, option, value, &expected(option));
                continue;
            };
            match section.check(option, &text) {
                Ok(()) => values.push(FileValue {
                    text,
                    line: self.line(value.span()),
                }),
                Err(reason) => {
                    let wrong = explained(option, &text, &reason);
                    self.mistake(section, option, value, &wrong);
                }
            }
        }
        values
    }

    fn mistake(
        &mut self,
        section: &SectionInfo,
        option: &OptionInfo,
        value: &Spanned<DeValue<'_>>,
        wrong: &str,
    ) {
        let line = self.line(value.span());
        let wrong = format!("[{}] {}: {wrong}", section.name, option.key);
        self.errors.push((line, wrong));
    }

    fn has_error_on(&self, line: usize) -> bool {
        self.errors.iter().any(|(other, _)| *other == line)
    }

    /// The line of a place in the text, from 1 on.
    fn line(&self, place: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..place.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// A value as its flag takes it, if it is of a type that can be.
fn text_of(arity: Arity, value: &DeValue<'_>) -> Option<String> {
    match (arity, value) {
        (Arity::Switch, DeValue::Boolean(value)) => Some(value.to_string()),
        (Arity::Switch, _) => None,
        (_, DeValue::String(text)) => Some(text.clone().into_owned()),
        (_, DeValue::Integer(number)) => Some(number.as_str().to_owned()),
        (_, DeValue::Float(number)) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// What is wrong with a value, and what was expected.
fn explained(option: &OptionInfo, text: &str, reason: &str) -> String {
    // The option's own parser names what it expects, and leaves out what may be secret.
    if reason.contains(" is not ") || reason.contains("expected") {
        return reason.to_owned();
    }
    format!("{:?}: {reason}; {}", redacted(text), expected(option))
}

fn expected(option: &OptionInfo) -> String {
    if option.arity == Arity::Switch {
        return "expected true or false".to_owned();
    }
    let name = option.value_name.as_deref().unwrap_or_default();
    format!("expected {}", meaning_of(name).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let ConfigErrors(errors) = ConfigFile::parse(Path::new("f.toml"), text).unwrap_err();
        errors
    }

    #[test]
    fn every_mistake_is_reported_with_its_line_its_key_and_what_was_expected() {
        let text = "\
# a comment
upload_rate = \"1MB/s\"
[proxy]
uplod_rate = \"1MB/s\"
upload_rate = \"fast\"
listen = \"nowhere\"
supernodes = [\"http://a:8001\",
  \"ftp://b\", [7]]
seed_pushed = \"yes\"
mirror_hosts = \"docker.io\"
registry = \"unix://x\"
registry_ca = [\"x\"]
shared_registry = []
colour = \"red\"
[supernod]
x = 1
[registries]
insecure = [
  \"a:b:c\",
  \"ok.example\",
]
[supernode]
peer_listen = here
trace_ratio = 2
preheat_platforms = [\"linux/amd64\", \"linux\"]
preheat_nodes = \"web-[\"
";
        let expected = [
            ":2: upload_rate: no section; put it below [supernode] or [proxy]",
            ":4: [proxy] uplod_rate: unknown key; did you mean upload_rate?",
            ":5: [proxy] upload_rate: \"fast\" is not a rate such as",
            ":6: [proxy] listen: \"nowhere\": invalid socket address syntax; expected IP address and port",
            ":8: [proxy] supernodes: expected a URL such as http://10.0.0.1:8001",
            ":8: [proxy] supernodes: expected http://HOST",
            ":9: [proxy] seed_pushed: expected true or false",
            ":10: [proxy] mirror_hosts: expected a list",
            ":11: [proxy] registry: expected a URL such as https://registry.example",
            ":12: [proxy] registry_ca: unknown key; did you mean ca of [registries]?",
            ":13: [proxy] shared_registry: unknown key; did you mean shared_registries of [supernode]?",
            ":14: [proxy] colour: unknown key; `flotilla config show --default` lists all",
            ":15: [supernod]: unknown section; did you mean [supernode]?",
            ":19: [registries] insecure: registry \"a:b:c\" is not HOST[:PORT]",
            ":23: malformed TOML: string values must be quoted",
            ":24: [supernode] trace_ratio: \"2\" is not a ratio from 0 to 1",
            ":25: [supernode] preheat_platforms: platform \"linux\" is not OS/ARCHITECTURE[/VARIANT]",
            ":26: [supernode] preheat_nodes: \"web-[\" is not a glob of nodes' names",
        ];
        let errors = errors(text);
        for (error, expected) in errors.iter().zip(expected) {
            let expected = format!("f.toml{expected}");
            assert!(error.starts_with(&expected), "{error}\n{expected}");
        }
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    }

    #[test]
    fn a_registry_of_the_wrong_form_is_reported_with_its_line() {
        let text = "\
[proxy]
registry = \"https://a.test/team\"
mirror_hosts = [
  \"docker.io\", \"http://[fd00::1]:5000\", \"*.corp.test\",
  \"*\",
  \"a.test:70000\",
  \"https://a.test/team\",
]
";
        let expected = [
            "f.toml:2: [proxy] registry: expected a URL such as https://registry.example",
            "f.toml:5: [proxy] mirror_hosts: mirror host \"*\" is not [http://]HOST[:PORT]",
            "f.toml:6: [proxy] mirror_hosts: mirror host \"a.test:70000\" is not",
            "f.toml:7: [proxy] mirror_hosts: mirror host \"https://a.test/team\" is not",
        ];
        let errors = errors(text);
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn a_password_in_a_bad_value_is_not_repeated() {
        let text = "[proxy]\notlp_endpoint = \"ftp://me:hunter2@c\"\nsupernodes = [\"http://me:hunter2@\"]\nlisten = \"http://me:hunter2@h/\"\n";
        let errors = errors(text);
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(!errors.join("").contains("hunter2"), "{errors:?}");
    }

    #[test]
    fn values_have_the_lines_on_which_they_stand() {
        let text = "[proxy]\nmirror_hosts = [\n  \"a\",\n  \"b\",\n]\ntrace_ratio = 0.25\nno_preheat = true\n";
        let file = ConfigFile::parse(Path::new("f.toml"), text).unwrap();
        let of = |key: &str| -> Vec<(String, usize)> {
            let values = file.values("proxy", key).unwrap_or_default().iter();
            values
                .map(|value| (value.text.clone(), value.line))
                .collect()
        };
        let pair = |text: &str, line| (text.to_owned(), line);
        assert_eq!(of("mirror_hosts"), [pair("a", 3), pair("b", 4)]);
        assert_eq!(of("trace_ratio"), [pair("0.25", 6)]);
        assert_eq!(of("no_preheat"), [pair("true", 7)]);
        assert!(file.values("supernode", "trace_ratio").is_none());
    }

    #[test]
    fn only_the_default_file_may_be_absent() {
        let missing = Path::new("/nonexistent/flotilla.toml");
        let ConfigErrors(errors) = ConfigFile::read(Some(missing)).unwrap_err();
        assert!(errors[0].starts_with("/nonexistent/flotilla.toml: "));
    }
}
