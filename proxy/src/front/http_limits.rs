//! How large the head of a message may be, of engines and of registries.

/// Harbor's tokens for many repositories have 16 KiB, signed URLs 2 KiB more.
pub(crate) const MAX_HEAD_BYTES: usize = 256 * 1024;
pub(crate) const MAX_HEADERS: usize = 256;
