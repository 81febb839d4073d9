//! What the tests of the program are set up with: the program in a directory of its own, sources,
//! a terminal, and waiting.

// No test needs all of it.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod daemon;
pub mod fake_source;
mod pane;
mod place;
mod wait;

pub use daemon::Daemon;
pub use pane::Pane;
pub use place::{Background, JOIN_TOKEN, Outcome, Place, Running, md5_of};
pub use wait::{DEADLINE, until};
