//! Preheating: layers are opened in the supernode's own name, and seed before any node pulls them; so
//! do files at URLs, without any login, from servers that the operator lists as he does registries.
//!
//! [`Preheater::run`] does the work of one of the [`jobs`], and sends what becomes of each layer into
//! the channel that it is given.

mod fetch;
mod identity;
mod image_url;
pub(crate) mod jobs;
mod manifest;
pub(crate) mod orders;
mod preheater;
mod request;
mod resolution;
mod target;
pub(crate) mod triggers;

pub(crate) use self::fetch::StepOutcome;
pub use self::manifest::{Platform, PlatformError};
pub(crate) use self::preheater::Preheater;
pub(crate) use self::request::Preheat;
pub use self::request::{NodeSelector, PreheatError};
pub(crate) use self::target::redacted_target;
