//! `flotilla config`: the configuration in force, the defaults, and mistakes of a file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::ConfigErrors;
use crate::config::file::{ConfigFile, DEFAULT_PATH};
use crate::config::given::Given;
use crate::config::in_force::{InForce, OptionInForce};
use crate::config::of_host::proxy_in_force;
use crate::config::proxy::{ProxyArgs, ProxyOptions};
use crate::config::redacted::redacted;
use crate::config::registries::RegistryOptions;
use crate::config::section::{Arity, Section};
use crate::config::supernode::{SupernodeArgs, SupernodeOptions};
use crate::config::{join_token, preheat_auth, reference};

/// Columns before the origin of a value.
const ORIGIN_COLUMN: usize = 48;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration in force, and where each value comes from
    Show(ShowArgs),
    /// Check a configuration file; every mistake is reported with its line
    Check(CheckArgs),
}

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla config show
  flotilla config show proxy --upload-rate 50MB/s
  flotilla config show --default > flotilla.toml"
    };
}

const SHOW_DETAILS: &str = concat!(
    examples!(),
    "

The output is a configuration file; the comment behind a value is its origin: a flag, a variable of \
the environment, a line of a file, or the default. Give the flags and set the variables that the \
role runs with. The place of a secret is printed, not the secret.

Exit codes:
  0  printed
  2  the command line or the configuration file is wrong; stderr has every mistake"
);

#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = SHOW_DETAILS, args_conflicts_with_subcommands = true)]
pub(crate) struct ShowArgs {
    #[command(subcommand)]
    role: Option<ShowRole>,
    /// Print every option with its documentation and default instead
    #[arg(long)]
    default: bool,
    /// Configuration file [default: /etc/flotilla/flotilla.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ShowRole {
    /// Configuration of `flotilla supernode` with these flags
    Supernode {
        /// Print every option with its documentation and default instead
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        args: Box<SupernodeArgs>,
    },
    /// Configuration of `flotilla proxy` with these flags
    Proxy {
        /// Print every option with its documentation and default instead
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        args: Box<ProxyArgs>,
    },
}

const CHECK_DETAILS: &str = "\
Exit codes:
  0  the file is right
  2  the file is wrong or cannot be read; stderr has every mistake, FILE:LINE: KEY: what was expected";

#[derive(Debug, Args)]
#[command(after_help = CHECK_DETAILS)]
pub(crate) struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
    file: PathBuf,
}

/// Runs one of the commands.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let text = match command {
        ConfigCommand::Show(args) => show(args)?,
        ConfigCommand::Check(CheckArgs { file }) => check(&file)?,
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn show(args: ShowArgs) -> Result<String, ConfigErrors> {
    match args.role {
        None if args.default => Ok(reference::commented_file(|_| true)),
        None => {
            let file = ConfigFile::read(args.config.as_deref())?;
            let supernode = show_supernode(&Given::default(), &file)?;
            let proxy = show_proxy(&Given::default(), &file)?;
            let registries = show_registries(&Given::default(), &file)?;
            Ok([supernode, proxy, registries].join("\n"))
        }
        Some(ShowRole::Supernode { default: true, .. }) => {
            Ok(reference::commented_file(|section| {
                section != ProxyOptions::NAME
            }))
        }
        Some(ShowRole::Proxy { default: true, .. }) => Ok(reference::commented_file(|section| {
            section != SupernodeOptions::NAME
        })),
        Some(ShowRole::Supernode { args, .. }) => {
            let file = ConfigFile::read(args.config.as_deref())?;
            let supernode = show_supernode(&args.options, &file)?;
            Ok([supernode, show_registries(&args.registries, &file)?].join("\n"))
        }
        Some(ShowRole::Proxy { args, .. }) => {
            let file = ConfigFile::read(args.config.as_deref())?;
            let proxy = show_proxy(&args.options, &file)?;
            Ok([proxy, show_registries(&args.registries, &file)?].join("\n"))
        }
    }
}

fn check(path: &Path) -> Result<String, ConfigErrors> {
    ConfigFile::read(Some(path))?;
    Ok(format!("{}: no mistakes\n", path.display()))
}

fn show_supernode(
    given: &Given<SupernodeOptions>,
    file: &ConfigFile,
) -> Result<String, ConfigErrors> {
    let in_force = InForce::resolve(given, file)?;
    let mut text = section(&in_force);
    let generated = in_force.options.data_dir.join("join-token");
    let is_generated = !in_force.options.listen.ip().is_loopback();
    let join_token = in_force.secret_file("join_token_file");
    let join_token = join_token.place(join_token::JOIN_VARIABLE);
    let join_token = join_token.or_else(|| is_generated.then(|| generated.display().to_string()));
    let stats_token = in_force.secret_file("stats_token_file");
    let preheat_auth = in_force.secret_file("preheat_auth");
    secrets(
        &mut text,
        &[
            ("join token", join_token),
            (
                "statistics token",
                stats_token.place(join_token::STATS_VARIABLE),
            ),
            ("preheat logins", preheat_auth.place(preheat_auth::VARIABLE)),
        ],
    );
    Ok(text)
}

fn show_proxy(given: &Given<ProxyOptions>, file: &ConfigFile) -> Result<String, ConfigErrors> {
    let in_force = proxy_in_force(given, file)?;
    let mut text = section(&in_force);
    let join_token = in_force.secret_file("join_token_file");
    let join_token = join_token.place(join_token::JOIN_VARIABLE);
    secrets(&mut text, &[("join token", join_token)]);
    Ok(text)
}

fn show_registries(
    given: &Given<RegistryOptions>,
    file: &ConfigFile,
) -> Result<String, ConfigErrors> {
    Ok(section(&InForce::resolve(given, file)?))
}

fn section<S: Section>(in_force: &InForce<S>) -> String {
    let derived = in_force.options.derived();
    let mut text = format!("[{}]\n", S::NAME);
    for option in &in_force.sources {
        let key = option.info.key.as_str();
        let derived = derived.iter().find(|(derived, _)| *derived == key);
        show_option(&mut text, option, derived.map(|(_, value)| value.as_str()));
    }
    text
}

fn show_option(text: &mut String, option: &OptionInForce, derived: Option<&str>) {
    let info = &option.info;
    let key = &info.key;
    let toml = |text: &str| reference::toml_value(info, &redacted(text));
    let mut line = |setting: String, origin: &str| {
        let _ = if origin.is_empty() {
            writeln!(text, "{setting}")
        } else {
            writeln!(text, "{setting:<ORIGIN_COLUMN$}  # {origin}")
        };
    };
    let described = || format!("default: {}", reference::default_of(info));
    match (info.arity, option.values.as_slice()) {
        (Arity::List, []) => line(format!("{key} = []"), &described()),
        (Arity::List, values) => {
            line(format!("{key} = ["), "");
            for value in values {
                let shown = toml(&value.text.to_string_lossy());
                line(format!("    {shown},"), &value.origin.to_string());
            }
            line("]".to_owned(), "");
        }
        (Arity::Switch, []) => line(format!("{key} = false"), "default"),
        (Arity::One, []) => match derived {
            Some(value) => line(format!("{key} = {}", toml(value)), &described()),
            None => line(format!("# {key} is not set"), &described()),
        },
        (_, [value, ..]) => {
            let shown = toml(&value.text.to_string_lossy());
            line(format!("{key} = {shown}"), &value.origin.to_string());
        }
    }
}

/// Where secrets are; what they are is not for a terminal.
fn secrets(text: &mut String, secrets: &[(&str, Option<String>)]) {
    for (name, place) in secrets {
        let place = place.as_deref().unwrap_or("none");
        let _ = writeln!(text, "# {name}: {place}");
    }
}
