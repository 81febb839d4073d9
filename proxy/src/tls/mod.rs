//! HTTPS registries that this node answers for: the certificate [`authority`] and the TLS
//! [`interception`] of their `CONNECT` requests.

pub(crate) mod authority;
pub(crate) mod interception;
