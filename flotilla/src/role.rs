//! The roles that a machine can have.

use clap::ValueEnum;

/// What a machine is in a cluster.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    Supernode,
    Proxy,
}
