//! Files on the disk while they arrive, and how they appear whole.

pub(crate) mod byte_ranges;
pub(crate) mod expected_digest;
pub(crate) mod part_file;
pub(crate) mod publish;
pub(crate) mod work_dir;
