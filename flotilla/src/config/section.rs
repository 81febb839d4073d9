//! A section of the configuration: one struct for its flags, its keys in the file and their
//! documentation.
//!
//! An option stands in one place, a field of such a struct. Its name is the key in the file, its
//! `#[arg]` the flag, the environment variable and the default, and its doc comment is the help
//! text, the entry in docs/configuration.md and the comment in deploy/flotilla.toml. The values of
//! the file go through the same parser as those of flags: there is no second reading of an option.
//!
//! A doc comment has, in this order: one line for `-h`, which ends with `[default: …]` where the
//! default is no fixed value; paragraphs for `--help`; `Environment: …` where a variable stands in
//! for the option; `Example: …`, a value, where there is no default to show the form.

use clap::builder::{OsStr, Resettable};
use clap::{Arg, ArgAction, Args, Command};

/// A struct of options that is a section of the file.
pub(crate) trait Section: Args {
    /// The section's name.
    const NAME: &'static str;

    /// Lists that flags replace. Flags add to other lists of the file.
    const REPLACED: &'static [&'static str] = &[];

    /// What is wrong with a value of `key` that has the form of its type.
    fn check_value(_key: &str, _text: &str) -> Result<(), String> {
        Ok(())
    }

    /// Options that are not set and whose values follow from others or from this machine.
    fn derived(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// How many values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// `true` or `false`; the flag takes no value.
    Switch,
    /// One value.
    One,
    /// Any number of values.
    List,
}

/// An option as clap knows it, and what its doc comment says.
#[derive(Clone, Debug)]
pub(crate) struct OptionInfo {
    pub(crate) key: String,
    /// With its two dashes.
    pub(crate) flag: String,
    pub(crate) arity: Arity,
    /// Of the help, such as `RATE`; none for switches.
    pub(crate) value_name: Option<String>,
    /// The variable that clap reads.
    pub(crate) variable: Option<String>,
    /// The default as the flag takes it.
    pub(crate) default: Option<String>,
    /// Which default there is when none is fixed.
    pub(crate) described_default: Option<String>,
    /// The first line of the doc comment, without the default.
    pub(crate) summary: String,
    /// The paragraphs after it.
    pub(crate) details: Vec<String>,
    /// The variable in the place of the option, in words.
    pub(crate) environment: Option<String>,
    pub(crate) example: Option<String>,
}

/// A section's name, its options and the parser of their values.
#[derive(Clone, Debug)]
pub(crate) struct SectionInfo {
    pub(crate) name: &'static str,
    pub(crate) options: Vec<OptionInfo>,
    command: Command,
    check_value: fn(&str, &str) -> Result<(), String>,
}

impl SectionInfo {
    pub(crate) fn of<S: Section>() -> Self {
        let with_environment = S::augment_args(Command::new("flotilla"));
        Self {
            name: S::NAME,
            options: with_environment.get_arguments().map(option_of).collect(),
            command: parser_of::<S>(),
            check_value: S::check_value,
        }
    }

    /// The option of this key.
    pub(crate) fn option(&self, key: &str) -> Option<&OptionInfo> {
        self.options.iter().find(|option| option.key == key)
    }

    /// Whether `text` is a value of `option`; the error says what is wrong with it.
    pub(crate) fn check(&self, option: &OptionInfo, text: &str) -> Result<(), String> {
        if option.arity == Arity::Switch {
            let is_switch = ["true", "false"].contains(&text);
            return is_switch.then_some(()).ok_or_else(String::new);
        }
        let argument = format!("{}={text}", option.flag);
        match self.command.clone().try_get_matches_from([argument]) {
            Ok(_) => (self.check_value)(&option.key, text),
            Err(error) => {
                let source = std::error::Error::source(&error);
                Err(source.map(ToString::to_string).unwrap_or_default())
            }
        }
    }
}

/// The parser of a section's flags, which reads nothing from the environment.
pub(crate) fn parser_of<S: Section>() -> Command {
    S::augment_args(Command::new("flotilla"))
        .no_binary_name(true)
        .mut_args(|arg| arg.env(Resettable::<OsStr>::Reset))
}

pub(crate) fn arity_of(arg: &Arg) -> Arity {
    match arg.get_action() {
        ArgAction::SetTrue => Arity::Switch,
        ArgAction::Append => Arity::List,
        _ => Arity::One,
    }
}

fn option_of(arg: &Arg) -> OptionInfo {
    let long = arg.get_long().unwrap_or_default();
    let arity = arity_of(arg);
    let names = arg.get_value_names().unwrap_or_default();
    let default = arg.get_default_values().first();
    let short_help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let long_help = arg.get_long_help().map(ToString::to_string);
    let mut paragraphs = long_help
        .as_deref()
        .unwrap_or_default()
        .split("\n\n")
        .skip(1)
        .map(ToOwned::to_owned)
        .collect::<Vec<_>>();
    let mut take = |mark: &str| {
        let at = paragraphs.iter().position(|text| text.starts_with(mark))?;
        Some(paragraphs.remove(at).trim_start_matches(mark).to_owned())
    };
    let example = take("Example: ");
    let environment = take("Environment: ");
    let (summary, described_default) = match short_help.split_once(" [default: ") {
        Some((summary, default)) => (summary, Some(default.trim_end_matches(']').to_owned())),
        None => (short_help.as_str(), None),
    };
    OptionInfo {
        key: arg.get_id().to_string(),
        flag: format!("--{long}"),
        arity,
        value_name: (arity != Arity::Switch)
            .then(|| names.first().map(ToString::to_string))
            .flatten(),
        variable: arg
            .get_env()
            .map(|name| name.to_string_lossy().into_owned()),
        default: default
            .filter(|_| arity == Arity::One)
            .map(|default| default.to_string_lossy().into_owned()),
        described_default,
        summary: summary.to_owned(),
        details: paragraphs,
        environment,
        example,
    }
}
