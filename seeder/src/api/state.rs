//! What the handlers of the cluster API share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use flotilla_cluster::TicketKey;
use flotilla_tracker::Tracker;

use crate::api::join_token::JoinToken;
use crate::preheat::jobs::Jobs;
use crate::public::swarms::PublicSwarms;
use crate::stats::Web;
use crate::swarms::SwarmOpener;

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) opener: Arc<SwarmOpener>,
    pub(crate) tracker: Tracker,
    pub(crate) public_swarms: PublicSwarms,
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
        opener: Arc<SwarmOpener>,
        tracker: Tracker,
        public_swarms: PublicSwarms,
        jobs: Jobs,
        join_token: JoinToken,
        listen: SocketAddr,
        web: Web,
    ) -> Arc<Self> {
        let ticket_key = opener.signer.public_key();
        Arc::new(Self {
            opener,
            tracker,
            public_swarms,
            jobs,
            listen,
            udp_port: OnceLock::new(),
            web: Arc::new(web),
            join_token,
            ticket_key,
        })
    }
}
