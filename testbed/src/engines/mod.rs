//! Real container engines on hosts.

pub(crate) mod containerd;
pub(crate) mod cri;
pub(crate) mod docker_engine;
