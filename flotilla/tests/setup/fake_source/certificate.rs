//! Certificates of sources.

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

/// A certificate for loopback that is its own authority.
pub struct Certificate(CertifiedKey<KeyPair>);

impl Certificate {
    pub fn new() -> Self {
        Self(rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.cert.pem()
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let versions =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(self.0.signing_key.serialize_der()).unwrap();
        let chain = vec![self.0.cert.der().clone()];
        let server = versions.unwrap().with_no_client_auth();
        Arc::new(server.with_single_cert(chain, key).unwrap())
    }
}
