//! Preheats that others than members of the cluster ask for: Harbor as its provider is called,
//! Harbor's webhooks, a registry's notifications.
//!
//! All of them make [jobs](super::jobs), of images at listed registries only.

mod authorization;
mod dragonfly;
mod dragonfly_v1;
mod error;
mod harbor_webhook;
mod logins;
mod notifications;
mod reply;
pub(crate) mod router;
mod settings;
mod state;

pub use self::logins::{TriggerLogins, TriggerLoginsError};
pub use self::settings::PreheatTriggers;
pub(crate) use self::state::Triggers;
