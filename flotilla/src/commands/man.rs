//! `flotilla man`: the manual pages.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages; created if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a page for the program and for each of its commands.
pub(super) fn run(args: &ManArgs, program: clap::Command) -> anyhow::Result<()> {
    write_pages(program, &args.directory)
        .with_context(|| format!("cannot write manual pages to {}", args.directory.display()))
}

/// Writes the pages of `program` into `directory`.
pub(crate) fn write_pages(program: clap::Command, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(program, directory)
}
