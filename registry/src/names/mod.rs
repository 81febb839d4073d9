//! The one grammar of names: registries ([`host`], [`registry_origin`], [`host_pattern`],
//! [`docker_hub`]), what is in them
//! ([`repository`], [`reference`](mod@reference), [`image_reference`]), and the paths and URLs that say both
//! ([`api_path`], [`blob_url`]).

pub mod api_path;
pub mod blob_url;
pub mod docker_hub;
pub mod host;
pub mod host_pattern;
pub mod image_reference;
pub mod reference;
pub mod registry_origin;
pub mod repository;
pub mod route;
