//! What commands take from the configuration of this host.

use std::path::{Path, PathBuf};

use url::Url;

use super::dragonfly_conf;
use super::errors::ConfigErrors;
use super::file::ConfigFile;
use super::given::Given;
use super::in_force::{InForce, Origin, Sourced};
use super::proxy::ProxyOptions;
use super::section::SectionInfo;
use super::supernode::SupernodeOptions;
use super::supernode_urls;
use crate::role::Role;

/// Where the system that flotilla succeeds keeps its list of supernodes.
pub(crate) const DRAGONFLY_FILE: &str = "/etc/dragonfly.conf";
const DATA_DIR: &str = "data_dir";

/// The options of the proxy in force; supernodes that neither flags nor the file name are those of
/// [`DRAGONFLY_FILE`].
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn proxy_in_force(
    given: &Given<ProxyOptions>,
    file: &ConfigFile,
) -> Result<InForce<ProxyOptions>, ConfigErrors> {
    InForce::resolve_with(given, file, |key| {
        if key != "supernodes" {
            return Ok(Vec::new());
        }
        let supernodes = dragonfly_conf::supernodes(Path::new(DRAGONFLY_FILE));
        let supernodes = supernodes.map_err(|error| ConfigErrors(vec![error]))?;
        let sourced = supernodes.into_iter().map(|url| Sourced {
            text: url.into(),
            origin: Origin::Other(DRAGONFLY_FILE),
        });
        Ok(sourced.collect())
    })
}

/// Where a role keeps its layers when the command line does not say.
///
/// # Errors
/// Everything that is wrong with the configuration file.
pub(crate) fn data_dir_of(role: Role) -> Result<PathBuf, ConfigErrors> {
    let file = ConfigFile::read(None)?;
    let section = match role {
        Role::Supernode => SectionInfo::of::<SupernodeOptions>(),
        Role::Proxy => SectionInfo::of::<ProxyOptions>(),
    };
    let in_file = file.values(section.name, DATA_DIR);
    let in_file = in_file.and_then(|values| Some(values.first()?.text.clone()));
    let default = || section.option(DATA_DIR)?.default.clone();
    Ok(PathBuf::from(in_file.or_else(default).unwrap_or_default()))
}

/// Which supernodes a command asks.
#[derive(Debug, Default)]
pub(crate) struct Supernodes {
    pub(crate) urls: Vec<Url>,
    /// On the command line, and not in this host's configuration.
    pub(crate) are_named: bool,
    /// Of the configuration that names them.
    pub(crate) join_token_file: Option<PathBuf>,
}

/// The supernodes `named` by flags, else those of this host's configuration, else none; what is
/// wrong goes to `errors`.
pub(crate) fn supernodes(named: &[String], errors: &mut Vec<String>) -> Supernodes {
    if !named.is_empty() {
        return Supernodes {
            urls: supernode_urls::of_flag(named, errors),
            are_named: true,
            join_token_file: None,
        };
    }
    let configured =
        ConfigFile::read(None).and_then(|file| proxy_in_force(&Given::default(), &file));
    let in_force = match configured {
        Ok(in_force) => in_force,
        Err(ConfigErrors(wrong)) => {
            errors.extend(wrong);
            return Supernodes::default();
        }
    };
    let of_file = in_force.option("supernodes").is_some_and(|supernodes| {
        let mut values = supernodes.values.iter();
        values.any(|value| matches!(value.origin, Origin::File { .. }))
    });
    let join_token_file = in_force.options.common.join_token_file;
    Supernodes {
        urls: supernode_urls::of_checked(&in_force.options.supernodes),
        are_named: false,
        join_token_file: join_token_file.filter(|_| of_file),
    }
}
