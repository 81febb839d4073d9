//! Registries: who they are, how they are reached, and who may have what from them.
//!
//! [`host`] names a registry and [`repository`] what is in it, [`api_path`] and [`blob_url`] read
//! paths and URLs, [`tls`] says how it is trusted, [`source`] fetches from it,
//! [`authorization`] asks it whether a caller may have a blob, [`token`] reads what its token service
//! signed, [`challenge`] what it asks for, and [`login`] holds logins of our own.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation
    )
)]

pub mod authorization;
pub mod challenge;
pub mod link_local;
pub mod login;
mod names;
pub mod pace;
pub mod source;
pub mod tls;
pub mod token;

pub use self::names::{
    api_path, blob_url, host, image_reference, reference, registry_origin, repository, route,
};

pub use self::blob_url::{ApiUrl, BlobUrl, origin_of};
pub use self::reference::{Reference, Tag};
pub use self::repository::Repository;
