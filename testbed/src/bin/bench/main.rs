//! `make bench`: the figures of docs/benchmarks.md.

mod announcers;
mod event_stream;
mod many_nodes;
mod page_views;
mod pushes;
mod single_node;
mod small_images;
mod statistics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flotilla_testbed::conclude;

/// Measures how fast files and images reach machines on links of a known speed.
#[derive(Debug, Parser)]
#[command(name = "flotilla-bench")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Many nodes get one file at once; compared with what the links allow.
    Get(many_nodes::Arguments),
    /// One node pulls an image through the swarm; compared with a direct pull in the same run.
    Single(single_node::Arguments),
    /// One client pushes, straight and through the proxy, in turns.
    Push(pushes::Arguments),
    /// One client pulls many small images, straight and through the proxy, in one run.
    Small(small_images::Arguments),
    /// Many nodes announce themselves, with no statistics page open and with some, in turns.
    Page(page_views::Arguments),
}

fn main() -> ExitCode {
    conclude(match Arguments::parse().measurement {
        Measurement::Get(arguments) => many_nodes::measure(&arguments),
        Measurement::Single(arguments) => single_node::measure(&arguments),
        Measurement::Push(arguments) => pushes::measure(&arguments),
        Measurement::Small(arguments) => small_images::measure(&arguments),
        Measurement::Page(arguments) => page_views::measure(&arguments),
    })
}
