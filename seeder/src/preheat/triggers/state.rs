//! What the handlers of all triggers share.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use flotilla_cluster::messages::preheats::PreheatRequest;

use super::settings::PreheatTriggers;
use crate::api::join_token::JoinToken;
use crate::preheat::jobs::{JobId, JobRecord, Jobs};

/// The jobs, and which requests may make some.
pub(crate) struct Triggers {
    pub(super) jobs: Jobs,
    /// None: the operator has said nothing.
    settings: Option<PreheatTriggers>,
    join_token: JoinToken,
    /// Where the API listens.
    listen: SocketAddr,
}

impl Triggers {
    pub(crate) fn new(
        jobs: Jobs,
        settings: Option<PreheatTriggers>,
        join_token: JoinToken,
        listen: SocketAddr,
    ) -> Self {
        Self {
            jobs,
            settings,
            join_token,
            listen,
        }
    }

    /// Whether a request with these headers may ask for preheats: with the join token, or with a
    /// login of the triggers' own. Without such logins all requests from this host may.
    pub(super) fn may_trigger(&self, headers: &HeaderMap) -> bool {
        let is_member = self.join_token.is_set() && self.join_token.admits(headers);
        let logins = self.settings.as_ref().map(|settings| &settings.logins);
        is_member
            || match logins.filter(|logins| !logins.is_empty()) {
                Some(logins) => logins.admit(headers),
                None => self.listen.ip().is_loopback(),
            }
    }

    /// Whether a request with these headers shows a login, be it right or wrong.
    pub(super) fn shows_login(&self, headers: &HeaderMap) -> bool {
        let settings = self.settings.as_ref();
        settings.is_some_and(|settings| settings.logins.are_tried_by(headers))
    }

    /// A preheat of `images`, as far as the trigger does not say more.
    pub(super) fn request(&self, images: Vec<String>) -> PreheatRequest {
        match &self.settings {
            Some(settings) => settings.request(images),
            None => PreheatTriggers::default().request(images),
        }
    }

    pub(super) fn job(&self, id: &str) -> Option<JobRecord> {
        self.jobs.get(id.parse().ok().map(JobId)?)
    }

    pub(super) async fn cancel_job(&self, id: &str) -> Option<JobRecord> {
        self.jobs.cancel(id.parse().ok().map(JobId)?).await
    }
}
