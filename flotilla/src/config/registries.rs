//! `[registries]`: how either role reaches registries.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use flotilla_registry::egress::{Egress, EgressProxy};
use flotilla_registry::names::host::RegistryHost;
use flotilla_registry::tls::{ClientCertificate, RegistryTls};
use flotilla_registry::token::TokenCertificate;
use url::Host;

use super::section::Section;

/// Options of `[registries]`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryOptions {
    /// Certificate authority of registries; repeatable
    ///
    /// A PEM file. The platform's certificate authorities stay valid beside it.
    ///
    /// Example: /etc/flotilla/registry-ca.crt
    #[arg(long = "registry-ca", value_name = "FILE", help_heading = "Registries")]
    pub(crate) ca: Vec<PathBuf>,
    /// Registry whose certificate is not verified; repeatable
    ///
    /// Anyone between this machine and the registry can then read the credentials and change what
    /// has no digest.
    ///
    /// Example: registry.example:5000
    #[arg(
        long = "insecure-registry",
        value_name = "HOST",
        help_heading = "Registries"
    )]
    pub(crate) insecure: Vec<RegistryHost>,
    /// Client certificate for a registry; repeatable
    ///
    /// For registries that ask for one.
    ///
    /// Example: registry.example=/etc/flotilla/client.crt,/etc/flotilla/client.key
    #[arg(
        long = "client-certificate",
        value_name = "HOST=CERT,KEY",
        help_heading = "Registries"
    )]
    pub(crate) client_certificates: Vec<ClientCertificate>,
    /// HTTP proxy to registries [default: the environment's]
    ///
    /// For sites whose registries are reached through a corporate proxy. Registries and their stores,
    /// what passes through, and tunnels take it; traffic of the cluster never does, nor does this
    /// machine itself. `none` turns the environment's off. A password is better kept in the
    /// configuration file than in a flag, which other users of the machine see.
    ///
    /// Environment: HTTP_PROXY and HTTPS_PROXY, also in lower case, for registries without and with
    /// TLS; NO_PROXY names hosts, domains, addresses and networks that are reached without it, also
    /// where this option is given. A proxy of the environment that is flotilla itself is passed over.
    ///
    /// Example: http://USER:PASSWORD@proxy.example:3128
    #[arg(
        long = "registry-proxy",
        value_name = "URL",
        help_heading = "Registries"
    )]
    pub(crate) registry_proxy: Option<EgressProxy>,
    /// Certificate of a token service; repeatable
    ///
    /// The certificate that the registry's token service signs with (Harbor: root.crt). Tokens
    /// are then verified here instead of by a request to the registry, for layers that it has served
    /// from the same repository within the last hour.
    ///
    /// Example: harbor.example=/etc/flotilla/harbor-root.crt
    #[arg(
        long = "token-certificate",
        value_name = "HOST=FILE",
        help_heading = "Registries"
    )]
    pub(crate) token_certificates: Vec<TokenCertificate>,
}

impl Section for RegistryOptions {
    const NAME: &'static str = "registries";
}

/// The port of engines, where flotilla itself is the HTTP proxy of this machine.
const OWN_PORT: u16 = 65001;

impl RegistryOptions {
    /// The way to registries. The engines of this machine may have flotilla as their HTTP proxy, at
    /// `listen` or at its usual port; it is not its own.
    pub(crate) fn egress(&self, listen: Option<SocketAddr>) -> Egress {
        let except = of_environment("NO_PROXY").unwrap_or_default();
        if let Some(proxy) = &self.registry_proxy {
            return Egress::through(proxy, proxy, &except);
        }
        let own = [OWN_PORT, listen.map_or(OWN_PORT, |listen| listen.port())];
        let of = |variable| {
            let proxy = of_environment(variable).and_then(|text| match text.parse() {
                Ok(proxy) => Some(proxy),
                Err(error) => {
                    tracing::warn!(variable, %error, "proxy of the environment not used");
                    None
                }
            });
            let proxy = proxy.filter(|proxy| !is_own(proxy, &own));
            proxy.unwrap_or_default()
        };
        Egress::through(&of("HTTP_PROXY"), &of("HTTPS_PROXY"), &except)
    }
}

/// A variable that some programs write in capitals and others do not.
fn of_environment(name: &str) -> Option<String> {
    let value = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    value(name).or_else(|| value(&name.to_ascii_lowercase()))
}

fn is_own(proxy: &EgressProxy, ports: &[u16]) -> bool {
    let Some(url) = proxy.url() else {
        return false;
    };
    let is_here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    is_here
        && url
            .port_or_known_default()
            .is_some_and(|port| ports.contains(&port))
}

impl From<RegistryOptions> for RegistryTls {
    fn from(options: RegistryOptions) -> Self {
        Self {
            ca: options.ca,
            insecure: options.insecure,
            client_certificates: options.client_certificates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_environment_that_is_flotilla_itself_is_known() {
        let own = |text: &str| is_own(&text.parse().unwrap(), &[65001, 7000]);
        for text in [
            "http://127.0.0.1:65001",
            "localhost:7000",
            "http://[::1]:65001/",
        ] {
            assert!(own(text), "{text}");
        }
        for text in ["http://127.0.0.1:3128", "http://proxy.test:65001", "none"] {
            assert!(!own(text), "{text}");
        }
    }
}
