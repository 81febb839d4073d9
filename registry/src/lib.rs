//! Registries: who they are, how they are reached, and who may have what from them.
//!
//! [`names::host`] names a registry, [`tls`] says how it is trusted, [`egress`] which proxy leads to
//! it, [`source`] fetches from it,
//! [`authorization`] asks it whether a caller may have a blob, [`token`] reads what its token service
//! signed, [`challenge`] what it asks for, and [`login`] holds logins of our own.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod authorization;
pub mod challenge;
pub mod egress;
pub mod link_local;
pub mod login;
pub mod names;
pub mod pace;
pub mod source;
pub mod tls;
pub mod token;

pub use self::names::blob_url::{ApiUrl, BlobUrl, origin_of};
pub use self::names::reference::{Reference, Tag};
pub use self::names::repository::Repository;
