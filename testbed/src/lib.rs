//! The testbed: network namespaces with shaped links, a real registry, real engines; demo and benchmarks.
//!
//! Everything runs as root on one machine. A [`Testbed`] is a private network: each [`Host`] is a
//! network namespace on a switch of its own, so neither the machine's addresses nor its firewall
//! take part. What a testbed starts, mounts or writes is found again by the testbed's name alone,
//! which is how it is cleared when it is dropped, interrupted, or left behind by a killed process.
//!
//! Long-lived programs die with the *thread* that started them (that is what `PR_SET_PDEATHSIG`
//! watches): start them from the thread that owns the testbed.

mod blob_store;
mod certificate;
mod containerd;
mod cri;
mod deadline;
mod docker_engine;
mod flotilla_process;
mod host;
mod image;
mod interruption;
mod lifetime;
mod link;
mod login;
mod namespace;
mod origin;
mod process;
mod registry;
mod registry_log;
mod scratch;
mod sweep;
mod table;
mod testbed;
mod token_service;

pub use containerd::Containerd;
pub use deadline::wait_until;
pub use docker_engine::{DockerEngine, EngineOptions, pull_all};
pub use flotilla_process::{Flotilla, Get, GetOptions, NodeProxy, ProxyOptions, Supernode};
pub use host::Host;
pub use image::{Image, ImageBuilder, Layer, random_file};
pub use interruption::{conclude, interrupted};
pub use lifetime::Lifetime;
pub use link::{InterfaceBytes, LinkRate};
pub use login::Login;
pub use origin::{NginxOrigin, OriginTraffic};
pub use process::Process;
pub use registry::{Registry, RegistryKind};
pub use registry_log::BlobTraffic;
pub use sweep::{stop_kept, sweep_stale};
pub use table::Table;
pub use testbed::Testbed;
