//! Everything below a directory listing: its pages, the walk over them, and names for files.

pub(crate) mod index_page;
pub(crate) mod index_walk;
pub(crate) mod remote_name;
