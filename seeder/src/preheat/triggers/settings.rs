//! What the operator says about triggers.

use flotilla_cluster::messages::preheats::PreheatRequest;

use super::logins::TriggerLogins;
use crate::preheat::{Preheat, PreheatError};

/// Who may ask for preheats without being a member of the cluster, and what is understood where
/// their requests do not say it.
///
/// # Defaults
/// Members only, and callers on this host when the API listens on loopback; all platforms;
/// no nodes.
#[derive(Clone, Debug, Default)]
pub struct PreheatTriggers {
    /// What they show.
    pub logins: TriggerLogins,
    /// `OS/ARCHITECTURE[/VARIANT]`; none: all that an image has.
    pub platforms: Vec<String>,
    /// The nodes that are to have the layers as well, a glob of their names; none: no node.
    pub nodes: Option<String>,
}

impl PreheatTriggers {
    /// # Errors
    /// A platform or the nodes are not understood.
    pub(crate) fn check(&self) -> Result<(), PreheatError> {
        let image = "localhost/any".to_owned();
        Preheat::of_request(self.request(vec![image]))?;
        Ok(())
    }

    /// A preheat of `images` as far as the trigger does not say more.
    pub(super) fn request(&self, images: Vec<String>) -> PreheatRequest {
        PreheatRequest {
            images,
            platforms: self.platforms.clone(),
            nodes: self.nodes.clone(),
            ..PreheatRequest::default()
        }
    }
}
