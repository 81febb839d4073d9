//! What registries, repositories, images and blobs are called, and where they are: the one grammar of
//! names and URLs.

pub mod api_path;
pub mod blob_url;
pub mod host;
pub mod image_reference;
pub mod reference;
pub mod registry_origin;
pub mod repository;
pub mod route;
