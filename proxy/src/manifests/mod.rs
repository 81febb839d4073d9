//! Manifests as they pass: a copy is read ([`tee`]) to learn the names of layers ([`image_names`]).

pub(crate) mod image_names;
pub(crate) mod tee;
