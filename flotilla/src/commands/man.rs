//! `flotilla man`: the manual pages.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use crate::cli::Cli;

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages; it is made if need be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a page for the program and for each of its commands.
pub(super) fn run(args: &ManArgs) -> anyhow::Result<()> {
    write_pages(&args.directory)
        .with_context(|| format!("cannot write manual pages to {}", args.directory.display()))
}

fn write_pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_with_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man1");
        write_pages(&pages).unwrap();
        let page = |name: &str| {
            let text = std::fs::read_to_string(pages.join(format!("{name}.1")));
            text.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let mut root = Cli::command();
        root.build();
        let mut waiting = vec![(root.clone(), "flotilla".to_owned())];
        while let Some((command, name)) = waiting.pop() {
            let text = page(&name);
            assert!(text.contains(".TH "), "{name}");
            for arg in command.get_arguments().filter_map(clap::Arg::get_long) {
                let flag = format!("\\-\\-{}", arg.replace('-', "\\-"));
                assert!(text.contains(&flag), "{name}: {flag}");
            }
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                waiting.push((sub.clone(), format!("{name}-{}", sub.get_name())));
            }
        }
        assert!(page("flotilla-get").contains("resume an interrupted download"));
    }
}
