//! What nodes and supernodes write to each other: the JSON of the cluster API.

pub mod node_report;
pub mod orders;
pub mod preheats;
pub mod swarms;
