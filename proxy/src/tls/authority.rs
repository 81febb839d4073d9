//! The proxy's own certificate authority, for the intercepted registries only.
//!
//! Its key stays on this node. Its certificate carries name constraints (RFC 5280 section
//! 4.2.1.10), so that an engine which trusts it trusts it for nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flotilla_client::secret_file;
use flotilla_registry::names::host::RegistryHost;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};

use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// The certificate that engines are to trust.
const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";
/// Engines whose clocks are behind still accept a certificate made just now.
const BACKDATED: Duration = Duration::days(1);
const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
/// Made anew long before: see `interception.rs`.
const LEAF_LIFETIME: Duration = Duration::days(30);
/// The engines offer nothing else, and others then do without HTTP/2.
const ALPN: &[u8] = b"http/1.1";

/// Issues certificates for the intercepted registries.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// One key for all leaves: they are the same server.
    leaf_key: KeyPair,
}

impl CertificateAuthority {
    /// The authority kept in `dir`, made on first use. When the list of registries has
    /// changed since, its certificate is made anew with the same key: an engine that trusts the
    /// earlier one still does, for the registries that it named.
    pub(crate) fn open(
        dir: &Path,
        registries: &[RegistryHost],
        stats: &ProxyStats,
    ) -> anyhow::Result<Self> {
        let key = own_key(&dir.join(KEY_FILE))?;
        let params = authority_params(&key, registries);
        let file = dir.join(CERTIFICATE_FILE);
        let scope = scope(registries);
        let is_current =
            fs::read_to_string(&file).is_ok_and(|text| text.lines().next() == Some(&scope));
        if !is_current {
            let pem = params.self_signed(&key)?.pem();
            replace(&file, &format!("{scope}\n{pem}"))?;
            set_mark!(stats, Mark::CaCertificateMade, file = %file.display());
        }
        Ok(Self {
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate()?,
        })
    }

    /// What the proxy shows to engines that take it for `host`, a name or an address.
    pub(crate) fn server_config(&self, host: &str) -> anyhow::Result<ServerConfig> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "intercepted by flotilla");
        params.distinguished_name = name;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_lifetime(&mut params, LEAF_LIFETIME);
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.into())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

/// The first line of the certificate's file; PEM readers skip it.
fn scope(registries: &[RegistryHost]) -> String {
    let mut hosts: Vec<&str> = registries.iter().map(RegistryHost::host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    format!("# flotilla proxy: vouches only for {}", hosts.join(", "))
}

fn authority_params(key: &KeyPair, registries: &[RegistryHost]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // The same key has the same name, for any list of registries.
    let id = params.key_identifier(key);
    let id = data_encoding::HEXLOWER.encode(id.get(..8).unwrap_or(&id));
    name.push(DnType::CommonName, format!("flotilla proxy {id}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(constraints(registries));
    set_lifetime(&mut params, AUTHORITY_LIFETIME);
    params
}

/// A certificate may name anything of a kind that is not constrained: each kind is constrained.
fn constraints(registries: &[RegistryHost]) -> NameConstraints {
    let permitted = registries.iter().map(|registry| match registry.ip() {
        Some(ip) => {
            let prefix = if ip.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, prefix))
        }
        None => GeneralSubtree::DnsName(registry.host().to_owned()),
    });
    let mut excluded = Vec::new();
    if registries.iter().all(|registry| registry.ip().is_some()) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    let any_ip = |is_kind: fn(&std::net::IpAddr) -> bool| {
        registries
            .iter()
            .filter_map(RegistryHost::ip)
            .any(|ip| is_kind(&ip))
    };
    if !any_ip(std::net::IpAddr::is_ipv4) {
        let all = CidrSubnet::from_addr_prefix(Ipv4Addr::UNSPECIFIED.into(), 0);
        excluded.push(GeneralSubtree::IpAddress(all));
    }
    if !any_ip(std::net::IpAddr::is_ipv6) {
        let all = CidrSubnet::from_addr_prefix(Ipv6Addr::UNSPECIFIED.into(), 0);
        excluded.push(GeneralSubtree::IpAddress(all));
    }
    NameConstraints {
        permitted_subtrees: permitted.collect(),
        excluded_subtrees: excluded,
    }
}

fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
}

/// The key kept at `path`, made on first use.
fn own_key(path: &Path) -> anyhow::Result<KeyPair> {
    let subject = || format!("CA key {}", path.display());
    if !path.try_exists().with_context(subject)? {
        let pem = KeyPair::generate()?.serialize_pem();
        secret_file::create(path, pem.as_bytes()).with_context(subject)?;
    }
    let pem = fs::read_to_string(path).with_context(subject)?;
    KeyPair::from_pem(&pem).with_context(subject)
}

/// Writes a file that all may read at one stroke: a crash leaves the old one or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = || {
        // One left by a crash may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<RegistryHost> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_key_is_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join(KEY_FILE), dir.path().join(CERTIFICATE_FILE));
        CertificateAuthority::open(dir.path(), &hosts(&["a.test"]), &ProxyStats::default())
            .unwrap();
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = (
            fs::read(&key).unwrap(),
            fs::read_to_string(&certificate).unwrap(),
        );

        CertificateAuthority::open(dir.path(), &hosts(&["A.test:5000"]), &ProxyStats::default())
            .unwrap();
        let same = (
            fs::read(&key).unwrap(),
            fs::read_to_string(&certificate).unwrap(),
        );
        assert_eq!(same, first);

        CertificateAuthority::open(
            dir.path(),
            &hosts(&["a.test", "b.test"]),
            &ProxyStats::default(),
        )
        .unwrap();
        assert_eq!(fs::read(&key).unwrap(), first.0);
        let wider = fs::read_to_string(&certificate).unwrap();
        assert!(wider.starts_with("# flotilla proxy: vouches only for a.test, b.test\n"));
    }

    #[test]
    fn a_broken_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "not a key").unwrap();
        let opened =
            CertificateAuthority::open(dir.path(), &hosts(&["a.test"]), &ProxyStats::default());
        let error = format!("{:#}", opened.err().unwrap());
        assert!(error.contains("ca.key"), "{error}");
    }
}
