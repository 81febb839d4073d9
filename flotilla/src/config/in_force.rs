//! The configuration in force: flags over environment over file over defaults, and where each value
//! comes from.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::errors::ConfigErrors;
use super::file::ConfigFile;
use super::given::Given;
use super::redacted::redacted;
use super::secrets::SecretFile;
use super::section::{Arity, OptionInfo, Section, SectionInfo, parser_of};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The flag.
    Flag(String),
    /// The variable of the environment.
    Environment(String),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1 on.
        line: usize,
    },
    /// A file of another kind.
    Other(&'static str),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(variable) => write!(f, "{variable} of the environment"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Other(path) => f.write_str(path),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as its flag takes it.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    pub(crate) text: OsString,
    pub(crate) origin: Origin,
}

/// An option and the values that are in force.
#[derive(Clone, Debug)]
pub(crate) struct OptionInForce {
    pub(crate) info: OptionInfo,
    /// Empty when the option is not set and has no fixed default.
    pub(crate) values: Vec<Sourced>,
}

/// A section in force.
#[derive(Debug)]
pub(crate) struct InForce<S> {
    pub(crate) options: S,
    /// In the order of the struct.
    pub(crate) sources: Vec<OptionInForce>,
}

impl<S: Section> InForce<S> {
    /// Puts flags over environment over file over defaults.
    ///
    /// # Errors
    /// All values of other origins than the file that are wrong; those of the file were checked when
    /// it was read.
    pub(crate) fn resolve(given: &Given<S>, file: &ConfigFile) -> Result<Self, ConfigErrors> {
        Self::resolve_with(given, file, |_| Ok(Vec::new()))
    }

    /// As [`resolve`](Self::resolve), with values from elsewhere for options that are not set.
    pub(crate) fn resolve_with(
        given: &Given<S>,
        file: &ConfigFile,
        elsewhere: impl Fn(&str) -> Result<Vec<Sourced>, ConfigErrors>,
    ) -> Result<Self, ConfigErrors> {
        let mut arguments: Vec<OsString> = Vec::new();
        let (mut sources, mut mistakes) = (Vec::new(), Vec::new());
        for info in SectionInfo::of::<S>().options {
            let mut values = values_of(&info, given, file);
            if values.is_empty() {
                values = elsewhere(&info.key)?;
            }
            for value in &values {
                arguments.extend(argument(&info, value));
                mistakes.extend(mistake::<S>(&info, value));
            }
            if let (true, Some(default)) = (values.is_empty(), &info.default) {
                values.push(Sourced {
                    text: default.into(),
                    origin: Origin::Default,
                });
            }
            sources.push(OptionInForce { info, values });
        }
        if !mistakes.is_empty() {
            return Err(ConfigErrors(mistakes));
        }
        let options = parser_of::<S>()
            .try_get_matches_from(arguments)
            .and_then(|matches| S::from_arg_matches(&matches))
            .map_err(|error| ConfigErrors(vec![error.to_string()]))?;
        Ok(Self { options, sources })
    }

    /// The option of this key.
    pub(crate) fn option(&self, key: &str) -> Option<&OptionInForce> {
        self.sources.iter().find(|option| option.info.key == key)
    }

    /// Where the secret is that the option `key` names a file of.
    pub(crate) fn secret_file(&self, key: &str) -> SecretFile {
        let value = self.option(key).and_then(|option| option.values.first());
        match value {
            None => SecretFile::default(),
            Some(value) => {
                let path = Some(PathBuf::from(&value.text));
                match value.origin {
                    Origin::Flag(_) => SecretFile {
                        flag: path,
                        configured: None,
                    },
                    _ => SecretFile {
                        flag: None,
                        configured: path,
                    },
                }
            }
        }
    }
}

/// What is wrong with a value that no reader of a file has checked.
fn mistake<S: Section>(info: &OptionInfo, value: &Sourced) -> Option<String> {
    if matches!(value.origin, Origin::File { .. }) {
        return None;
    }
    let text = value.text.to_string_lossy();
    let wrong = S::check_value(&info.key, &text).err()?;
    Some(format!("{} {}: {wrong}", value.origin, redacted(&text)))
}

/// What is given for an option, before its default.
fn values_of<S: Section>(info: &OptionInfo, given: &Given<S>, file: &ConfigFile) -> Vec<Sourced> {
    let given = given.option(&info.key).map(|option| {
        let origin = match &info.variable {
            Some(variable) if !option.by_flag => Origin::Environment(variable.clone()),
            _ => Origin::Flag(info.flag.clone()),
        };
        let values = option.values.iter().map(|text| Sourced {
            text: text.clone(),
            origin: origin.clone(),
        });
        values.collect::<Vec<_>>()
    });
    let in_file = file.values(S::NAME, &info.key).unwrap_or_default();
    let in_file = in_file.iter().map(|value| Sourced {
        text: value.text.clone().into(),
        origin: Origin::File {
            path: file.path.clone(),
            line: value.line,
        },
    });
    let adds = info.arity == Arity::List && !S::REPLACED.contains(&info.key.as_str());
    match given {
        Some(given) if adds => in_file.chain(given).collect(),
        Some(given) => given,
        None => in_file.collect(),
    }
}

/// The flag that says the same.
fn argument(info: &OptionInfo, value: &Sourced) -> Option<OsString> {
    let mut argument = OsString::from(&info.flag);
    if info.arity == Arity::Switch {
        return (value.text == "true").then_some(argument);
    }
    argument.push("=");
    argument.push(&value.text);
    Some(argument)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{Args, Command, FromArgMatches as _};

    use super::*;
    use crate::config::proxy::ProxyOptions;
    use crate::config::registries::RegistryOptions;
    use crate::config::supernode::SupernodeOptions;
    use crate::config::units::Rate;

    fn given<S: Section>(line: &str) -> Given<S> {
        let command = Given::<S>::augment_args(Command::new("flotilla").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace());
        Given::from_arg_matches(&matches.unwrap()).unwrap()
    }

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("f.toml"), text).unwrap()
    }

    fn proxy(line: &str, text: &str) -> InForce<ProxyOptions> {
        InForce::resolve(&given(line), &file(text)).unwrap()
    }

    fn origins<S: Section>(in_force: &InForce<S>, key: &str) -> Vec<String> {
        let values = &in_force.option(key).unwrap().values;
        values
            .iter()
            .map(|value| value.origin.to_string())
            .collect()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "[proxy]\nupload_rate = \"1MB/s\"\ndownload_rate = \"2MB/s\"\nsupernodes = [\"http://a:8001\"]\n";
        let in_force = proxy("--upload-rate 3MB/s", text);
        let options = &in_force.options;
        assert_eq!(options.upload_rate, Rate(Some(3_000_000)));
        assert_eq!(options.download_rate, Rate(Some(2_000_000)));
        assert_eq!(options.common.cache_quota.0, 64 << 30);
        assert_eq!(options.supernodes, ["http://a:8001"]);
        assert_eq!(origins(&in_force, "upload_rate"), ["--upload-rate"]);
        assert_eq!(origins(&in_force, "download_rate"), ["f.toml:3"]);
        assert_eq!(origins(&in_force, "cache_quota"), ["default"]);
        assert!(origins(&in_force, "node_name").is_empty());
    }

    #[test]
    fn flags_add_to_lists_of_the_file_but_replace_its_supernodes() {
        let text = "[proxy]\nmirror_hosts = [\"a\", \"b\"]\nsupernodes = [\"http://a:1\"]\n\
                    [registries]\nca = [\"one\"]\n";
        let line = "--mirror-host c --supernode http://b:1,http://c:1 --supernode http://d:1";
        let in_force = proxy(line, text);
        let hosts = ["a", "b", "c"].map(|host| host.parse().unwrap());
        assert_eq!(in_force.options.mirror_hosts, hosts);
        assert_eq!(
            in_force.options.supernodes,
            ["http://b:1", "http://c:1", "http://d:1"]
        );
        assert_eq!(
            origins(&in_force, "mirror_hosts"),
            ["f.toml:2", "f.toml:2", "--mirror-host"]
        );
        let registries: InForce<RegistryOptions> =
            InForce::resolve(&given("--registry-ca two"), &file(text)).unwrap();
        assert_eq!(registries.options.ca, [Path::new("one"), Path::new("two")]);
    }

    #[test]
    fn a_switch_is_on_when_the_flag_or_the_file_turns_it_on() {
        assert!(
            proxy("", "[proxy]\nseed_pushed = true\n")
                .options
                .seed_pushed
        );
        assert!(
            proxy("--seed-pushed", "[proxy]\nseed_pushed = false\n")
                .options
                .seed_pushed
        );
        assert!(
            !proxy("", "[proxy]\nseed_pushed = false\n")
                .options
                .seed_pushed
        );
    }

    #[test]
    fn open_repositories_stand_in_the_file_and_on_the_command_line() {
        let text = "[supernode]\nopen_repositories = [\"r.example/public/*\"]\n";
        let line = "--open-repository a.example/b --udp-tracker 127.0.0.1:1";
        let in_force: InForce<SupernodeOptions> =
            InForce::resolve(&given(line), &file(text)).unwrap();
        let listed = in_force.options.open_repositories.iter();
        let listed: Vec<_> = listed.map(ToString::to_string).collect();
        assert_eq!(listed, ["r.example:443/public/*", "a.example:443/b"]);
        assert!(in_force.options.udp_tracker.is_some());
    }

    #[test]
    fn every_bad_supernode_of_the_command_line_is_named() {
        let given = given::<ProxyOptions>("--supernode ftp://a,::");
        let error = InForce::resolve(&given, &ConfigFile::default()).unwrap_err();
        let ConfigErrors(errors) = error;
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("--supernode ftp://a: expected"));
        assert!(errors[1].starts_with("--supernode ::: "));
    }

    #[test]
    fn paths_that_are_not_utf_8_stay_as_they_are() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::ffi::OsStr::from_bytes(b"/d\xff");
        let mut argument = OsString::from("--data-dir=");
        argument.push(path);
        let command = Given::<ProxyOptions>::augment_args(Command::new("f").no_binary_name(true));
        let matches = command.try_get_matches_from([argument]).unwrap();
        let given = Given::<ProxyOptions>::from_arg_matches(&matches).unwrap();
        let in_force = InForce::resolve(&given, &ConfigFile::default()).unwrap();
        assert_eq!(in_force.options.data_dir.as_os_str(), path);
    }

    #[test]
    fn a_secret_of_the_file_gives_way_to_the_environment_and_that_of_a_flag_does_not() {
        let text = "[proxy]\njoin_token_file = \"/f\"\n";
        let configured = proxy("", text).secret_file("join_token_file");
        assert_eq!(configured.configured.as_deref(), Some(Path::new("/f")));
        assert_eq!(configured.flag, None);
        let flag = proxy("--join-token-file /g", text).secret_file("join_token_file");
        assert_eq!(flag.flag.as_deref(), Some(Path::new("/g")));
        assert_eq!(flag.configured, None);
    }
}
