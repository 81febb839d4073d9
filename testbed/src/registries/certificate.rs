//! Certificates that the testbed's servers show.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::KeyPair;

/// What clients have to trust.
pub(crate) const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "key.pem";

/// A certificate that is its own authority, and its key.
pub(crate) struct Certificate {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Certificate {
    /// For a server at `address`.
    pub(crate) fn for_address(address: Ipv4Addr) -> Result<Self> {
        let own = rcgen::generate_simple_self_signed([address.to_string()])?;
        Ok(Self {
            certificate: own.cert,
            key: own.signing_key,
        })
    }

    /// Writes both as PEM; the paths of certificate and key.
    pub(crate) fn write(&self, directory: &Path) -> Result<(PathBuf, PathBuf)> {
        let (chain, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
        fs::write(&chain, self.certificate.pem()).context("cannot write a certificate")?;
        fs::write(&key, self.key.serialize_pem()).context("cannot write a key")?;
        Ok((chain, key))
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// PKCS #8.
    pub(crate) fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }
}
