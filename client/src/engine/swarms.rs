//! The swarms that run on a host, and the names that lead to them.

use std::collections::HashMap;
use std::sync::Arc;

use flotilla_torrents::InfoHash;
use tokio_util::sync::CancellationToken;

use crate::engine::running_swarm::RunningSwarm;
use crate::peers::open_torrent::OpenTorrent;

#[derive(Debug, Default)]
pub(super) struct Swarms {
    pub(super) running: HashMap<InfoHash, Running>,
    /// Names under which every peer is welcome, and the swarms that they lead to.
    pub(super) open: HashMap<InfoHash, Opened>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) swarm: RunningSwarm,
    pub(super) stop: CancellationToken,
}

#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) swarm: InfoHash,
    pub(super) torrent: Arc<OpenTorrent>,
}

impl Swarms {
    pub(super) fn remove(&mut self, swarm: &InfoHash) -> Option<Running> {
        self.open.retain(|_, opened| opened.swarm != *swarm);
        self.running.remove(swarm)
    }

    /// The swarm that a peer names, and the torrent in whose name it may come without a ticket.
    pub(super) fn named(
        &self,
        name: &InfoHash,
    ) -> Option<(RunningSwarm, Option<Arc<OpenTorrent>>)> {
        let opened = self.open.get(name);
        let running = self
            .running
            .get(opened.map_or(name, |opened| &opened.swarm))?;
        let torrent = opened.map(|opened| Arc::clone(&opened.torrent));
        Some((running.swarm.clone(), torrent))
    }
}
