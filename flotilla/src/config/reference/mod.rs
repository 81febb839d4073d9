//! Writes the documentation of the configuration from the options themselves: the commented
//! configuration file and docs/configuration.md.

#[cfg(test)]
pub(crate) mod markdown;

use std::fmt::Write as _;

use crate::config::file::sections;
use crate::config::section::{Arity, OptionInfo};
use crate::config::values::meaning_of;

/// Columns of a comment.
const WIDTH: usize = 100;

/// A configuration file with every option of the sections that `is_wanted`, its documentation and
/// its default.
pub(crate) fn commented_file(is_wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for section in sections().iter().filter(|section| is_wanted(section.name)) {
        if !text.is_empty() {
            text.push('\n');
        }
        comment(&mut text, about(section.name));
        let _ = writeln!(text, "[{}]", section.name);
        for option in &section.options {
            text.push('\n');
            comment(&mut text, &sentence(&option.summary));
            for paragraph in &option.details {
                comment(&mut text, paragraph);
            }
            comment(&mut text, &format!("Value: {}.", value_of(option)));
            comment(&mut text, &format!("Flag: {}.", usage(option)));
            if option.default.is_none() {
                comment(&mut text, &format!("Default: {}.", default_of(option)));
            }
            if let Some(environment) = environment_of(option) {
                comment(
                    &mut text,
                    &format!("Environment: {}", sentence(&environment)),
                );
            }
            let _ = writeln!(text, "{}", setting(option));
        }
    }
    text
}

/// What a section is for.
pub(crate) fn about(section: &str) -> &'static str {
    match section {
        "supernode" => "Of `flotilla supernode`.",
        "proxy" => "Of `flotilla proxy`.",
        _ => "How supernode and proxy reach registries.",
    }
}

/// An option with its default, or with an example where there is none.
fn setting(option: &OptionInfo) -> String {
    let key = &option.key;
    match (option.arity, &option.default, &option.example) {
        (Arity::Switch, ..) => format!("{key} = false"),
        (Arity::List, _, Some(example)) => format!("# {key} = [{}]", quoted(example)),
        (Arity::List, ..) => format!("{key} = []"),
        (Arity::One, Some(default), _) => format!("{key} = {}", toml_value(option, default)),
        (Arity::One, None, example) => {
            let example = example.as_deref().unwrap_or_default();
            format!("# {key} = {}", toml_value(option, example))
        }
    }
}

/// A value of this option in TOML.
pub(crate) fn toml_value(option: &OptionInfo, text: &str) -> String {
    let is_bare = option.arity == Arity::Switch || option.value_name.as_deref() == Some("RATIO");
    if is_bare {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The form, unit and bounds of a value.
fn value_of(option: &OptionInfo) -> String {
    let Some(name) = option.value_name.as_deref() else {
        return "true or false; the flag takes no value".to_owned();
    };
    let form = meaning_of(name).unwrap_or("?");
    if option.arity == Arity::List {
        format!("list; each value {form}")
    } else {
        form.to_owned()
    }
}

/// The flag with its value.
fn usage(option: &OptionInfo) -> String {
    match &option.value_name {
        Some(name) => format!("{} {name}", option.flag),
        None => option.flag.clone(),
    }
}

/// The default in words.
pub(crate) fn default_of(option: &OptionInfo) -> String {
    match (option.arity, &option.default, &option.described_default) {
        (_, _, Some(described)) => described.clone(),
        (Arity::Switch, ..) => "false".to_owned(),
        (Arity::List, ..) => "none".to_owned(),
        (Arity::One, Some(default), _) => default.clone(),
        (Arity::One, None, None) => "?".to_owned(),
    }
}

fn environment_of(option: &OptionInfo) -> Option<String> {
    option
        .environment
        .clone()
        .or_else(|| option.variable.clone())
}

/// What the flag does, which is not more than the key can.
fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{}.", text.trim_end_matches("; repeatable"))
}

/// Lines that begin with `#`.
fn comment(text: &mut String, paragraph: &str) {
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file::ConfigFile;
    use crate::config::section::SectionInfo;
    use crate::config::values::FORMS;

    const WRITE: &str = "FLOTILLA_WRITE_DOCS";
    /// Longer ones do not fit beside the flag in `-h`.
    const MAX_SUMMARY: usize = 60;

    /// Compares a file of the repository with what the code says, or writes it.
    #[track_caller]
    fn assert_documents(file: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(path, text).unwrap();
            return;
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        let differing = found
            .lines()
            .zip(text.lines())
            .find(|(one, other)| one != other);
        assert!(
            found == text,
            "{file} differs from the code, first at {differing:?}; \
             {WRITE}=1 cargo test -p flotilla documentation renews it"
        );
    }

    #[test]
    fn the_documentation_of_the_repository_is_that_of_the_code() {
        let head = "# The configuration of flotilla, with every option and its default. A line with # before an\n\
             # option is an example. Flags and the environment win over this file.\n\n";
        let file = format!("{head}{}", commented_file(|_| true));
        assert_documents("deploy/flotilla.toml", &file);
        assert_documents("docs/configuration.md", &markdown::page());
    }

    fn each_option() -> Vec<(SectionInfo, OptionInfo)> {
        let sections = sections().into_iter();
        let each = sections.flat_map(|section| {
            let options = section.options.clone();
            options
                .into_iter()
                .map(move |option| (section.clone(), option))
        });
        each.collect()
    }

    /// What is missing in the documentation of an option.
    fn missing(option: &OptionInfo) -> Option<&'static str> {
        let length = option.summary.chars().count();
        let form = option.value_name.as_deref().map(meaning_of);
        if length == 0 || length > MAX_SUMMARY {
            return Some("a summary of at most 60 characters");
        }
        if form == Some(None) {
            return Some("a value name that config/values.rs explains");
        }
        if default_of(option) == "?" {
            return Some("a default, or [default: …] in the first line");
        }
        let has_value = option.default.is_some() || option.arity == Arity::Switch;
        if !has_value && option.example.is_none() {
            return Some("Example: …");
        }
        None
    }

    #[test]
    fn every_option_has_a_summary_a_unit_a_default_and_an_example() {
        for (section, option) in each_option() {
            let at = format!("[{}] {}", section.name, option.key);
            assert_eq!(missing(&option), None, "{at}");
        }
        let (_, complete) = each_option().swap_remove(0);
        let broken = [
            OptionInfo {
                summary: String::new(),
                ..complete.clone()
            },
            OptionInfo {
                value_name: Some("THING".to_owned()),
                ..complete.clone()
            },
            OptionInfo {
                default: None,
                ..complete.clone()
            },
            OptionInfo {
                default: None,
                described_default: Some("none".to_owned()),
                ..complete
            },
        ];
        for option in &broken {
            assert!(missing(option).is_some(), "{option:?}");
        }
    }

    #[test]
    fn every_example_is_a_value_of_its_option() {
        for (section, option) in each_option() {
            if let Some(example) = &option.example {
                assert_eq!(section.check(&option, example), Ok(()), "{}", option.key);
            }
        }
    }

    #[test]
    fn the_commented_file_is_read_back_also_with_its_examples() {
        let text = commented_file(|_| true);
        ConfigFile::parse(Path::new("f"), &text).unwrap();
        let with_examples: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting)
                    if setting
                        .split_once(" = ")
                        .is_some_and(|(k, _)| !k.contains(' ')) =>
                {
                    setting
                }
                _ => line,
            })
            .collect();
        let file = ConfigFile::parse(Path::new("f"), &with_examples.join("\n")).unwrap();
        for (section, option) in each_option() {
            let values = file.values(section.name, &option.key);
            assert!(values.is_some(), "[{}] {}", section.name, option.key);
        }
    }

    #[test]
    fn the_bounds_that_the_documentation_names_are_those_of_the_code() {
        let sections = sections();
        let check = |key: &str, text: &str| {
            let mut options = sections.iter();
            let (section, option) = options
                .find_map(|section| Some((section, section.option(key)?)))
                .unwrap();
            section.check(option, text).is_ok()
        };
        for (key, right, wrong) in [
            ("upload_rate", "1kB/s", "999B/s"),
            ("upload_rate", "unlimited", "0"),
            ("trace_ratio", "0", "-0.01"),
            ("trace_ratio", "1", "1.01"),
            ("cache_quota", "0B", "-1B"),
            ("listen", "[::1]:0", "[::1]:65536"),
            ("intercept", "h:65535", "h:0"),
        ] {
            assert!(check(key, right), "{key} {right}");
            assert!(!check(key, wrong), "{key} {wrong}");
        }
        let used: Vec<_> = each_option()
            .into_iter()
            .filter_map(|(_, option)| option.value_name)
            .collect();
        for form in FORMS {
            assert!(used.iter().any(|name| name == form.name), "{}", form.name);
        }
    }
}
