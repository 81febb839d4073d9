//! TLS towards registries: always verified, unless an operator says otherwise by name.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::names::host::{PerRegistry, RegistryHost};

/// How registries are verified, and who we are to them.
///
/// # Defaults
/// The platform's certificate authorities, every certificate verified, no client certificates.
#[derive(Clone, Debug, Default)]
pub struct RegistryTls {
    /// PEM files with certificate authorities of registries, besides the platform's.
    pub ca: Vec<PathBuf>,
    /// Registries whose certificates are not verified.
    pub insecure: Vec<RegistryHost>,
    /// What we show to registries that ask for a certificate.
    pub client_certificates: Vec<ClientCertificate>,
}

/// A client certificate for one registry: `HOST[:PORT]=CERT,KEY`, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientCertificate {
    registry: RegistryHost,
    chain: PathBuf,
    key: PathBuf,
}

/// A client certificate is not understood.
#[derive(Debug, thiserror::Error)]
#[error("client certificate {0:?} is not HOST[:PORT]=CERT,KEY")]
pub struct ClientCertificateError(String);

impl FromStr for ClientCertificate {
    type Err = ClientCertificateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (registry, files) = text.split_once('=')?;
            let (chain, key) = files.split_once(',')?;
            Some(Self {
                registry: registry.parse().ok()?,
                chain: non_empty(chain)?,
                key: non_empty(key)?,
            })
        };
        parse().ok_or_else(|| ClientCertificateError(text.to_owned()))
    }
}

fn non_empty(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| PathBuf::from(path))
}

impl TryFrom<String> for ClientCertificate {
    type Error = ClientCertificateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClientCertificate> for String {
    fn from(certificate: ClientCertificate) -> Self {
        let ClientCertificate {
            registry,
            chain,
            key,
        } = certificate;
        format!("{registry}={},{}", chain.display(), key.display())
    }
}

impl RegistryTls {
    /// One `T` for each registry with settings of its own, and one for all others.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should; the error names it.
    pub fn per_registry<T>(
        &self,
        make: impl Fn(ClientConfig) -> anyhow::Result<T>,
    ) -> anyhow::Result<PerRegistry<T>> {
        let roots = read_roots(&self.ca)?;
        let certified = self.client_certificates.iter().map(|own| &own.registry);
        let named = self.insecure.iter().chain(certified);
        let named = named
            .map(|registry| {
                let config = self.client_config(&roots, Some(registry))?;
                Ok((registry.clone(), make(config)?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(PerRegistry::new(
            named,
            make(self.client_config(&roots, None)?)?,
        ))
    }

    fn client_config(
        &self,
        roots: &[CertificateDer<'static>],
        registry: Option<&RegistryHost>,
    ) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let insecure = registry.filter(|registry| self.insecure.contains(registry));
        let config = if let Some(registry) = insecure {
            tracing::warn!(%registry, "registry certificate not verified");
            let verifier = AnyCertificate(provider.signature_verification_algorithms);
            config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            match platform_verifier(roots.to_vec(), provider) {
                Ok(verifier) => {
                    let verifier = OrGiven {
                        verifier,
                        given: roots.to_vec(),
                    };
                    config
                        .dangerous()
                        .with_custom_certificate_verifier(Arc::new(verifier))
                }
                // A host without any root may still use registries without TLS.
                Err(error) => {
                    tracing::warn!(%error, "no registry can be verified, all https registries will be refused");
                    config.with_root_certificates(RootCertStore::empty())
                }
            }
        };
        let mut certificates = self.client_certificates.iter();
        match certificates.find(|own| Some(&own.registry) == registry) {
            None => Ok(config.with_no_client_auth()),
            Some(own) => {
                let chain = read_certificates(&own.chain, "client certificate")?;
                let key = PrivateKeyDer::from_pem_file(&own.key)
                    .with_context(|| format!("client key {}", own.key.display()))?;
                config
                    .with_client_auth_cert(chain, key)
                    .with_context(|| format!("client certificate {}", own.chain.display()))
            }
        }
    }
}

fn platform_verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<rustls_platform_verifier::Verifier, rustls::Error> {
    rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider)
}

fn read_roots(files: &[PathBuf]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut roots = Vec::new();
    for file in files {
        roots.extend(read_certificates(file, "registry CA")?);
    }
    Ok(roots)
}

fn read_certificates(file: &Path, what: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.with_context(|| format!("{what} {}", file.display()))?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{what} {}: no PEM certificate in it",
        file.display()
    );
    Ok(certificates)
}

/// Takes what the verifier takes, and a server's own certificate if the operator gave this very one.
///
/// `openssl req -x509`, as the handbooks of registries have it, marks a certificate as an authority's;
/// RFC 5280 has no place for it at a server, and engines take it all the same.
#[derive(Debug)]
struct OrGiven {
    verifier: rustls_platform_verifier::Verifier,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrGiven {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(error) = verified else {
            return verified;
        };
        if !self.given.contains(end_entity) || !lacks_only_an_issuer(&error) {
            return Err(error);
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Whether the certificate itself is in order and only its place in a chain is not: webpki looks at
/// the dates before it looks for who issued it.
fn lacks_only_an_issuer(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            let cause = cause.downcast_ref::<webpki::Error>();
            matches!(cause, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// Takes every certificate, and still checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_belongs_to_one_registry() {
        let written = "harbor.test:8443=/etc/c.pem,/etc/k.pem";
        let own: ClientCertificate = written.parse().unwrap();
        assert_eq!(own.registry, RegistryHost::new("harbor.test", 8443));
        assert_eq!(String::from(own), written);
        for text in ["harbor.test", "h=c", "h=c,", "=c,k", "h=,k"] {
            assert!(text.parse::<ClientCertificate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let tls = RegistryTls {
            ca: vec![PathBuf::from("/nonexistent/ca.pem")],
            ..RegistryTls::default()
        };
        let error = tls.per_registry(|_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/ca.pem"));
        let tls = RegistryTls {
            client_certificates: vec!["h=/nonexistent/c.pem,/nonexistent/k.pem".parse().unwrap()],
            ..RegistryTls::default()
        };
        let error = tls.per_registry(|_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/c.pem"));
    }
}
