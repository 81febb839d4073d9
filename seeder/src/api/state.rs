//! What the handlers of the cluster API share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use flotilla_cluster::TicketKey;
use flotilla_tracker::Tracker;

use crate::api::join_token::JoinToken;
use crate::preheat::jobs::Jobs;
use crate::public::swarms::OpenSwarms;
use crate::stats::Web;
use crate::swarms::Openings;

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) openings: Arc<Openings>,
    pub(crate) tracker: Tracker,
    pub(crate) open_swarms: OpenSwarms,
    pub(crate) jobs: Jobs,
    /// Where the API listens, and the UDP tracker if there is one.
    pub(crate) listen: SocketAddr,
    pub(crate) udp_port: OnceLock<u16>,
    pub(crate) web: Arc<Web>,
    pub(crate) join_token: JoinToken,
    pub(crate) ticket_key: TicketKey,
}

impl Api {
    pub(crate) fn new(
        openings: Arc<Openings>,
        tracker: Tracker,
        open_swarms: OpenSwarms,
        jobs: Jobs,
        join_token: JoinToken,
        listen: SocketAddr,
        web: Web,
    ) -> Arc<Self> {
        let ticket_key = openings.signer.public_key();
        Arc::new(Self {
            openings,
            tracker,
            open_swarms,
            jobs,
            listen,
            udp_port: OnceLock::new(),
            web: Arc::new(web),
            join_token,
            ticket_key,
        })
    }
}
