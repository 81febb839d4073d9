//! The configuration: flags over environment over file over defaults.
//!
//! [`section`] says where an option stands and what follows from it. [`file`](mod@file) reads the
//! file, [`given`] the flags and the environment, [`in_force`] puts one over the other.
//! [`reference`](mod@reference) writes the documentation.

mod common;
mod dragonfly_conf;
#[cfg(test)]
pub(crate) mod environment;
mod errors;
pub(crate) mod file;
pub(crate) mod given;
pub(crate) mod in_force;
pub(crate) mod join_token;
pub(crate) mod of_host;
pub(crate) mod preheat_auth;
pub(crate) mod proxy;
pub(crate) mod redacted;
pub(crate) mod reference;
pub(crate) mod registries;
pub(crate) mod secrets;
pub(crate) mod section;
mod suggestion;
pub(crate) mod supernode;
pub(crate) mod supernode_urls;
pub(crate) mod units;
pub(crate) mod values;

pub(crate) use self::errors::ConfigErrors;
