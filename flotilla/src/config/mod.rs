//! The configuration: command line over environment over file over defaults.

pub(crate) mod args;
mod dragonfly_conf;
pub(crate) mod join_token;
pub(crate) mod preheat_auth;
pub(crate) mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use flotilla_seeder::open_repository::OpenRepository;
use flotilla_seeder::registry_host::RegistryHost;
use flotilla_seeder::registry_login::OwnRegistry;
use flotilla_seeder::registry_tls::{ClientCertificate, RegistryTls};
use flotilla_seeder::registry_token::TokenCertificate;
use serde::{Deserialize, Serialize};
use url::Url;

use self::args::{CommonArgs, ProxyArgs, RegistryArgs, SupernodeArgs};
use self::units::{ByteCount, Rate};
use crate::otlp::{OtlpEndpoint, TraceRatio};
use crate::role::Role;

/// Read when no `--config` is given and it exists.
const FILE: &str = "/etc/flotilla/flotilla.toml";
/// Where the system that flotilla succeeds keeps its list of supernodes.
const DRAGONFLY_FILE: &str = "/etc/dragonfly.conf";
/// Loopback: a supernode opens itself to others only when it is told to.
const SUPERNODE_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 8001);
/// The port that engines of the predecessor are set up for.
const PROXY_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 65001);
const PROXY_PEER_LISTEN: SocketAddr = SocketAddr::new(ANY, 65002);
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ANY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// A supernode's port for pieces is its API port plus this: two on one host do not collide.
const PEER_PORT_DISTANCE: u16 = 1000;
/// A few dozen large images; less than the disk of any node that runs them.
const CACHE_QUOTA: ByteCount = ByteCount(64 << 30);
/// Apart, since both roles may run on one host and a data directory has one owner.
const SUPERNODE_DATA_DIR: &str = "/var/lib/flotilla/supernode";
const PROXY_DATA_DIR: &str = "/var/lib/flotilla/proxy";

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

/// What the file may hold.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    supernode: SupernodeSettings,
    proxy: ProxySettings,
    registries: RegistrySettings,
}

/// `[registries]`: how either role reaches them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistrySettings {
    pub(crate) ca: Vec<PathBuf>,
    pub(crate) insecure: Vec<RegistryHost>,
    pub(crate) client_certificates: Vec<ClientCertificate>,
    pub(crate) token_certificates: Vec<TokenCertificate>,
}

impl RegistrySettings {
    fn add(&mut self, args: RegistryArgs) {
        self.ca.extend(args.registry_ca);
        self.insecure.extend(args.insecure_registry);
        self.client_certificates.extend(args.client_certificate);
        self.token_certificates.extend(args.token_certificate);
    }
}

impl From<RegistrySettings> for RegistryTls {
    fn from(settings: RegistrySettings) -> Self {
        Self {
            ca: settings.ca,
            insecure: settings.insecure,
            client_certificates: settings.client_certificates,
        }
    }
}

/// `[supernode]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SupernodeSettings {
    pub(crate) listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_listen: Option<SocketAddr>,
    pub(crate) data_dir: PathBuf,
    pub(crate) cache_quota: ByteCount,
    pub(crate) upload_rate: Rate,
    pub(crate) registry_rate: Rate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) udp_tracker: Option<SocketAddr>,
    /// Registries under one operator, whose common layers are one swarm.
    pub(crate) shared_registries: Vec<Url>,
    /// Repositories whose layers are for everybody.
    pub(crate) open_repositories: Vec<OpenRepository>,
    /// Registries that images are preheated from, besides those of `registry_auth`.
    pub(crate) preheat_registries: Vec<OwnRegistry>,
    /// What triggers of preheats show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preheat_auth: Option<PathBuf>,
    /// The platforms that triggers mean; none: all.
    pub(crate) preheat_platforms: Vec<String>,
    /// The nodes that triggers mean, a glob of their names; none: no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preheat_nodes: Option<String>,
    /// Logins of the supernode's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registry_auth: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// What lets the statistics be seen from other machines, besides the join token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stats_token_file: Option<PathBuf>,
    /// The collector that traces go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_endpoint: Option<OtlpEndpoint>,
    pub(crate) trace_ratio: TraceRatio,
}

impl Default for SupernodeSettings {
    fn default() -> Self {
        Self {
            listen: SUPERNODE_LISTEN,
            peer_listen: None,
            data_dir: PathBuf::from(SUPERNODE_DATA_DIR),
            cache_quota: CACHE_QUOTA,
            upload_rate: Rate::default(),
            registry_rate: Rate::default(),
            udp_tracker: None,
            shared_registries: Vec::new(),
            open_repositories: Vec::new(),
            preheat_registries: Vec::new(),
            preheat_auth: None,
            preheat_platforms: Vec::new(),
            preheat_nodes: None,
            registry_auth: None,
            join_token_file: None,
            stats_token_file: None,
            otlp_endpoint: None,
            trace_ratio: TraceRatio::default(),
        }
    }
}

/// `[proxy]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxySettings {
    pub(crate) listen: SocketAddr,
    pub(crate) peer_listen: SocketAddr,
    pub(crate) supernodes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<Url>,
    /// Further registries that mirror requests may name with `?ns=`.
    pub(crate) mirror_hosts: Vec<String>,
    /// HTTPS registries that are intercepted when engines `CONNECT` to them.
    pub(crate) intercept: Vec<RegistryHost>,
    /// Whether layers seed as soon as they were pushed through the proxy.
    pub(crate) seed_pushed: bool,
    /// Whether supernodes ask this node for no preheats.
    pub(crate) no_preheat: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) cache_quota: ByteCount,
    pub(crate) upload_rate: Rate,
    pub(crate) download_rate: Rate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<String>,
    /// Where Prometheus finds the metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// The collector that traces go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_endpoint: Option<OtlpEndpoint>,
    pub(crate) trace_ratio: TraceRatio,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            listen: PROXY_LISTEN,
            peer_listen: PROXY_PEER_LISTEN,
            supernodes: Vec::new(),
            registry: None,
            mirror_hosts: Vec::new(),
            intercept: Vec::new(),
            seed_pushed: false,
            no_preheat: false,
            data_dir: PathBuf::from(PROXY_DATA_DIR),
            cache_quota: CACHE_QUOTA,
            upload_rate: Rate::default(),
            download_rate: Rate::default(),
            node_name: None,
            metrics_listen: None,
            join_token_file: None,
            otlp_endpoint: None,
            trace_ratio: TraceRatio::default(),
        }
    }
}

impl SupernodeSettings {
    /// The settings in force.
    pub(crate) fn resolve(args: SupernodeArgs) -> Result<(Self, RegistrySettings), ConfigErrors> {
        let mut file = read_file(args.common.config.as_deref())?;
        let mut settings = file.supernode;
        replace(&mut settings.listen, args.listen);
        settings.peer_listen = args.peer_listen.or(settings.peer_listen);
        replace(&mut settings.upload_rate, args.upload_rate);
        replace(&mut settings.registry_rate, args.registry_rate);
        settings.udp_tracker = args.udp_tracker.or(settings.udp_tracker);
        settings.shared_registries.extend(args.shared_registry);
        settings.open_repositories.extend(args.open_repository);
        settings.preheat_registries.extend(args.preheat_registry);
        settings.preheat_auth = args.preheat_auth.or(settings.preheat_auth);
        settings.preheat_platforms.extend(args.preheat_platform);
        settings.preheat_nodes = args.preheat_nodes.or(settings.preheat_nodes);
        settings.registry_auth = args.registry_auth.or(settings.registry_auth);
        settings.stats_token_file = args.stats_token_file.or(settings.stats_token_file);
        let CommonArgs {
            data_dir,
            cache_quota,
            join_token_file,
            registries,
            traces,
            config: _,
        } = args.common;
        replace(&mut settings.data_dir, data_dir);
        replace(&mut settings.cache_quota, cache_quota);
        settings.join_token_file = join_token_file.or(settings.join_token_file);
        settings.otlp_endpoint = traces.otlp_endpoint.or(settings.otlp_endpoint);
        replace(&mut settings.trace_ratio, traces.trace_ratio);
        file.registries.add(registries);
        Ok((settings, file.registries))
    }

    /// Where pieces are served.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        let mut default = self.listen;
        // Port 0 asks for any port, and so does its companion.
        if self.listen.port() != 0 {
            default.set_port(self.listen.port().saturating_add(PEER_PORT_DISTANCE));
        }
        self.peer_listen.unwrap_or(default)
    }
}

impl ProxySettings {
    /// The settings in force, the supernodes' URLs, and how registries are reached.
    pub(crate) fn resolve(
        args: ProxyArgs,
    ) -> Result<(Self, Vec<Url>, RegistrySettings), ConfigErrors> {
        let mut file = read_file(args.common.config.as_deref())?;
        let mut settings = file.proxy;
        replace(&mut settings.listen, args.listen);
        replace(&mut settings.peer_listen, args.peer_listen);
        replace(&mut settings.upload_rate, args.upload_rate);
        replace(&mut settings.download_rate, args.download_rate);
        settings.registry = args.registry.or(settings.registry);
        settings.mirror_hosts.extend(args.mirror_host);
        settings.intercept.extend(args.intercept);
        settings.seed_pushed |= args.seed_pushed;
        settings.no_preheat |= args.no_preheat;
        settings.node_name = args.node_name.or(settings.node_name);
        settings.metrics_listen = args.metrics_listen.or(settings.metrics_listen);
        let CommonArgs {
            data_dir,
            cache_quota,
            join_token_file,
            registries,
            traces,
            config: _,
        } = args.common;
        replace(&mut settings.data_dir, data_dir);
        replace(&mut settings.cache_quota, cache_quota);
        settings.join_token_file = join_token_file.or(settings.join_token_file);
        settings.otlp_endpoint = traces.otlp_endpoint.or(settings.otlp_endpoint);
        replace(&mut settings.trace_ratio, traces.trace_ratio);
        file.registries.add(registries);
        if !args.supernode.is_empty() {
            settings.supernodes = args.supernode;
        }
        if settings.supernodes.is_empty() {
            settings.supernodes = dragonfly_conf::supernodes(Path::new(DRAGONFLY_FILE))
                .map_err(|error| ConfigErrors(vec![error]))?;
        }
        let mut errors = Vec::new();
        if let Some(registry) = &settings.registry
            && !matches!(registry.scheme(), "http" | "https")
        {
            errors.push(format!(
                "--registry {registry}: expected an http:// or https:// URL"
            ));
        }
        let supernodes = supernode_urls(&settings.supernodes, &mut errors);
        if settings.supernodes.is_empty() {
            errors.push(format!(
                "no supernode: give --supernode http://ADDR:8001, or supernodes in {FILE}, or [node] address=… in {DRAGONFLY_FILE}"
            ));
        }
        if errors.is_empty() {
            Ok((settings, supernodes, file.registries))
        } else {
            Err(ConfigErrors(errors))
        }
    }
}

/// Where a role keeps its layers when the command line does not say.
pub(crate) fn data_dir_of(role: Role) -> Result<PathBuf, ConfigErrors> {
    let file = read_file(None)?;
    Ok(match role {
        Role::Supernode => file.supernode.data_dir,
        Role::Proxy => file.proxy.data_dir,
    })
}

/// Which supernodes a `get` asks.
#[derive(Debug, Default)]
pub(crate) struct GetSupernodes {
    pub(crate) urls: Vec<Url>,
    /// On the command line, and not in this host's configuration.
    pub(crate) are_named: bool,
    /// Of the configuration that names them.
    pub(crate) join_token_file: Option<PathBuf>,
}

/// The supernodes `given`, else those of this host's configuration, else none; what is wrong goes
/// to `errors`.
pub(crate) fn get_supernodes(given: &[String], errors: &mut Vec<String>) -> GetSupernodes {
    if !given.is_empty() {
        return GetSupernodes {
            urls: supernode_urls(given, errors),
            are_named: true,
            join_token_file: None,
        };
    }
    let (mut texts, mut join_token_file) = match read_file(None) {
        Ok(file) => (file.proxy.supernodes, file.proxy.join_token_file),
        Err(ConfigErrors(wrong)) => {
            errors.extend(wrong);
            return GetSupernodes::default();
        }
    };
    if texts.is_empty() {
        join_token_file = None;
        match dragonfly_conf::supernodes(Path::new(DRAGONFLY_FILE)) {
            Ok(supernodes) => texts = supernodes,
            Err(error) => errors.push(error),
        }
    }
    GetSupernodes {
        urls: supernode_urls(&texts, errors),
        are_named: false,
        join_token_file,
    }
}

/// Reads the URLs of supernodes; what is wrong goes to `errors`.
pub(crate) fn supernode_urls(texts: &[String], errors: &mut Vec<String>) -> Vec<Url> {
    let mut urls = Vec::new();
    for text in texts {
        match Url::parse(text.trim()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => urls.push(url),
            Ok(_) => errors.push(format!(
                "--supernode {text}: expected a URL such as http://10.0.0.1:8001"
            )),
            Err(error) => errors.push(format!(
                "--supernode {text}: {error}; expected a URL such as http://10.0.0.1:8001"
            )),
        }
    }
    urls
}

/// The defaults of a role as a configuration file.
pub(crate) fn defaults(role: crate::role::Role) -> Result<String, toml::ser::Error> {
    #[derive(Serialize)]
    struct OneRole {
        #[serde(skip_serializing_if = "Option::is_none")]
        supernode: Option<SupernodeSettings>,
        #[serde(skip_serializing_if = "Option::is_none")]
        proxy: Option<ProxySettings>,
        registries: RegistrySettings,
    }
    let is_supernode = matches!(role, crate::role::Role::Supernode);
    toml::to_string(&OneRole {
        supernode: is_supernode.then(SupernodeSettings::default),
        proxy: (!is_supernode).then(ProxySettings::default),
        registries: RegistrySettings::default(),
    })
}

fn read_file(given: Option<&Path>) -> Result<File, ConfigErrors> {
    let path = given.unwrap_or(Path::new(FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(ConfigErrors(vec![format!(
                "configuration {}: {error}",
                path.display()
            )]));
        }
    };
    parse(&text).map_err(|errors| {
        ConfigErrors(
            errors
                .into_iter()
                .map(|error| format!("configuration {}: {error}", path.display()))
                .collect(),
        )
    })
}

/// Parses the file; a file with several bad values gives an error for each: bad values are
/// taken out one by one until the rest parses.
fn parse(text: &str) -> Result<File, Vec<String>> {
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| vec![one_line(&error)])?;
    let mut errors = Vec::new();
    let keys: Vec<(String, String)> = table
        .iter()
        .filter_map(|(role, settings)| Some((role, settings.as_table()?)))
        .flat_map(|(role, settings)| settings.keys().map(move |key| (role.clone(), key.clone())))
        .collect();
    for (role, key) in keys {
        let Some(settings) = table.get_mut(&role).and_then(toml::Value::as_table_mut) else {
            continue;
        };
        let Some(value) = settings.get(&key).cloned() else {
            continue;
        };
        let alone = toml::Table::from_iter([(
            role.clone(),
            toml::Value::Table(toml::Table::from_iter([(key.clone(), value)])),
        )]);
        if let Err(error) = alone.try_into::<File>() {
            errors.push(format!("[{role}] {key}: {}", one_line(&error)));
            settings.remove(&key);
        }
    }
    match table.try_into::<File>() {
        Ok(file) if errors.is_empty() => Ok(file),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(one_line(&error));
            Err(errors)
        }
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

fn replace<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn proxy_args(line: &str) -> ProxyArgs {
        let words = ["flotilla", "proxy"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Proxy(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_printed_defaults_are_read_back_as_the_defaults() {
        for role in [Role::Supernode, Role::Proxy] {
            let file = parse(&defaults(role).unwrap()).unwrap();
            assert_eq!(file.supernode, SupernodeSettings::default());
            assert_eq!(file.proxy, ProxySettings::default());
            assert_eq!(file.registries, RegistrySettings::default());
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flotilla.toml");
        std::fs::write(&path, "[proxy]\nupload_rate = \"1MB/s\"\ndownload_rate = \"2MB/s\"\nsupernodes = [\"http://a:8001\"]\n").unwrap();
        let args = proxy_args(&format!("--config {} --upload-rate 3MB/s", path.display()));
        let (settings, supernodes, _) = ProxySettings::resolve(args).unwrap();
        assert_eq!(settings.upload_rate, Rate(Some(3_000_000)));
        assert_eq!(settings.download_rate, Rate(Some(2_000_000)));
        assert_eq!(settings.cache_quota, CACHE_QUOTA);
        assert_eq!(supernodes, [Url::parse("http://a:8001").unwrap()]);
    }

    #[test]
    fn open_repositories_stand_in_the_file_and_on_the_command_line() {
        let file = parse("[supernode]\nopen_repositories = [\"r.example/public/*\"]\n").unwrap();
        let listed: Vec<String> = file
            .supernode
            .open_repositories
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(listed, ["r.example:443/public/*"]);
        let errors = parse("[supernode]\nopen_repositories = [\"r.example\"]\n").unwrap_err();
        let all = errors.join("\n");
        assert!(
            all.contains("open_repositories") && all.contains("r.example"),
            "{all}"
        );
        let line = "flotilla supernode --open-repository a.example/b --udp-tracker 127.0.0.1:1";
        let Command::Supernode(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("no supernode");
        };
        assert_eq!(args.open_repository, ["a.example/b".parse().unwrap()]);
        assert!(args.udp_tracker.is_some());
    }

    #[test]
    fn all_bad_values_are_reported_at_once() {
        let errors =
            parse("[proxy]\nupload_rate = \"fast\"\ncache_quota = \"much\"\ncolour = \"red\"\n")
                .unwrap_err();
        let all = errors.join("\n");
        for name in ["upload_rate", "cache_quota", "colour"] {
            assert!(all.contains(name), "{name} is missing in {all}");
        }
    }

    #[test]
    fn bad_urls_of_supernodes_are_named() {
        let errors = ProxySettings::resolve(proxy_args("--supernode ftp://a,::"))
            .unwrap_err()
            .to_string();
        assert!(
            errors.contains("ftp://a") && errors.contains("::"),
            "{errors}"
        );
    }

    #[test]
    fn two_supernodes_on_one_host_do_not_share_a_peer_port() {
        let at = |port| SupernodeSettings {
            listen: SocketAddr::new(LOOPBACK, port),
            ..SupernodeSettings::default()
        };
        assert_eq!(at(8001).peer_address().port(), 9001);
        assert_eq!(at(8002).peer_address().port(), 9002);
    }
}
