//! The directory below which testbeds write.

use std::path::PathBuf;

/// Not `/tmp`, which is memory on many machines: a demo writes ten gigabytes.
const DEFAULT_SCRATCH_ROOT: &str = "/var/tmp";
const SCRATCH_VARIABLE: &str = "FLOTILLA_SCRATCH";

/// Where testbeds keep their directories.
pub(crate) fn scratch_root() -> PathBuf {
    std::env::var_os(SCRATCH_VARIABLE)
        .map_or_else(|| PathBuf::from(DEFAULT_SCRATCH_ROOT), PathBuf::from)
}
