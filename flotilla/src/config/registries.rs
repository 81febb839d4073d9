//! `[registries]`: how either role reaches registries.

use std::path::PathBuf;

use clap::Args;
use flotilla_registry::names::host::RegistryHost;
use flotilla_registry::tls::{ClientCertificate, RegistryTls};
use flotilla_registry::token::TokenCertificate;

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

impl From<RegistryOptions> for RegistryTls {
    fn from(options: RegistryOptions) -> Self {
        Self {
            ca: options.ca,
            insecure: options.insecure,
            client_certificates: options.client_certificates,
        }
    }
}
