//! The testbed: network namespaces with shaped links, a real registry, real engines; demo and benchmarks.
//!
//! Everything runs as root on one machine. A [`Testbed`] is a private network: each [`Host`] is a
//! network namespace on a switch of its own, so neither the machine's addresses nor its firewall
//! take part. What a testbed starts, mounts or writes is found again by the testbed's name alone,
//! which is how it is cleared when it is dropped, interrupted, or left behind by a killed process.
//!
//! Long-lived programs die with the *thread* that started them (that is what `PR_SET_PDEATHSIG`
//! watches): start them from the thread that owns the testbed.

mod engines;
mod image;
mod lifetime;
mod network;
mod origin;
mod processes;
mod registries;
mod scratch;
pub mod simulation;
mod sweep;
mod table;
mod testbed;

pub use engines::containerd::Containerd;
pub use engines::docker_engine::{DockerEngine, EngineOptions, pull_all};
pub use image::{Image, ImageBuilder, Layer, random_file};
pub use lifetime::Lifetime;
pub use network::host::Host;
pub use network::link::{InterfaceBytes, LinkRate};
pub use origin::{NginxOrigin, OriginTraffic};
pub use processes::deadline::wait_until;
pub use processes::flotilla_process::{
    Flotilla, Get, GetOptions, NodeProxy, ProxyOptions, Supernode,
};
pub use processes::interruption::{conclude, interrupted};
pub use processes::process::Process;
pub use registries::login::Login;
pub use registries::registry::{Registry, RegistryKind};
pub use registries::registry_log::BlobTraffic;
pub use sweep::{stop_kept, sweep_stale};
pub use table::Table;
pub use testbed::Testbed;
