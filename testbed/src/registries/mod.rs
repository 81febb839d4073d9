//! Real registries, with logins, certificates, token services and blob stores.

pub(crate) mod blob_store;
pub(crate) mod certificate;
pub(crate) mod login;
pub(crate) mod registry;
pub(crate) mod registry_log;
pub(crate) mod token_service;
