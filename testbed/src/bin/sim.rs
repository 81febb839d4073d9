//! `flotilla-sim`: plays swarms in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use flotilla_testbed::simulation::{Scenario, plot, run};

/// Play swarms of up to 10,000 nodes in virtual time.
#[derive(Debug, Parser)]
struct Args {
    /// Scenario files (TOML); see testbed/scenarios
    #[arg(required = true, value_name = "FILE")]
    scenarios: Vec<PathBuf>,
    /// Play each scenario with this many seeds, from its own one on
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// Write a plot of each scenario into this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    match play(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flotilla-sim: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(args: &Args) -> anyhow::Result<()> {
    for path in &args.scenarios {
        let read = Scenario::read(path)?;
        for seed in read.seed..read.seed.saturating_add(args.seeds) {
            let scenario = Scenario {
                seed,
                ..read.clone()
            };
            let begun = Instant::now();
            let report = run(&scenario)?;
            print!("{report}");
            eprintln!(
                "  seed {seed}, simulated in {:.1} s",
                begun.elapsed().as_secs_f64()
            );
            if let Some(dir) = args.plots.as_ref().filter(|_| seed == read.seed) {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("{} not made", dir.display()))?;
                let name = path.file_stem().unwrap_or_default();
                let file = dir.join(name).with_extension("svg");
                std::fs::write(&file, plot(&report))
                    .with_context(|| format!("{} not written", file.display()))?;
            }
        }
    }
    Ok(())
}
