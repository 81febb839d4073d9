//! What nodes and supernodes write to each other: the paths and the JSON of the cluster API.

pub mod node_report;
pub mod orders;
pub mod paths;
pub mod preheats;
pub mod swarms;
