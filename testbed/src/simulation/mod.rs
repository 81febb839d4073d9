//! Whole swarms in virtual time: thousands of hosts run the code that decides on a node, over links that
//! have rates, latencies and zones.
//!
//! A [`Scenario`] says which hosts there are and what they do; [`run`] plays it and gives a [`Report`].
//! What a scenario shows depends on its seed alone. Processors and TCP are left out: a link carries one
//! block after the other at its rate, with the share of headers that the scenario names.

mod cluster;
mod events;
mod host;
mod links;
mod plot;
mod report;
mod scenario;

pub use self::cluster::run;
pub use self::plot::plot;
pub use self::report::Report;
pub use self::scenario::{Behaviour, Group, Scenario, ScenarioError, Tuning, Zone};
