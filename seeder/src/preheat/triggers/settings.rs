//! What the operator says about triggers.

use flotilla_cluster::messages::preheats::PreheatRequest;

use super::logins::TriggerLogins;
use crate::preheat::{NodeSelector, Platform, Preheat, PreheatError};

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
    /// None: all that an image has.
    pub platforms: Vec<Platform>,
    /// The nodes that are to have the layers as well; none: no node.
    pub nodes: Option<NodeSelector>,
}

impl PreheatTriggers {
    /// # Errors
    /// There are too many platforms.
    pub(crate) fn check(&self) -> Result<(), PreheatError> {
        let image = "localhost/any".to_owned();
        Preheat::of_request(self.request(vec![image]))?;
        Ok(())
    }

    /// A preheat of `images` as far as the trigger does not say more.
    pub(super) fn request(&self, images: Vec<String>) -> PreheatRequest {
        PreheatRequest {
            images,
            platforms: self.platforms.iter().map(ToString::to_string).collect(),
            nodes: self.nodes.as_ref().map(ToString::to_string),
            ..PreheatRequest::default()
        }
    }
}
