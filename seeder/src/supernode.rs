//! The supernode: an engine whose swarms are fed from sources, a tracker, the cluster API.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use flotilla_client::{Engine, EngineConfig, control, origin_of};
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{SignedTicket, TicketError, TicketKey, TicketSigner};
use flotilla_tracker::{Admission, Membership, Tracker, TrackerConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::{self, Api};
use crate::openings::{Openings, unix_now};
use crate::registry_tls::RegistryTls;
use crate::registry_token::{TokenCertificate, TokenVerifier};
use crate::source::{Source, SourceConfig};

/// Time that running answers have to end when the supernode stops.
const DRAIN: Duration = Duration::from_secs(3);

/// What a supernode needs to know.
#[derive(Clone, Debug)]
pub struct SupernodeConfig {
    /// Where layers and the ticket key are kept.
    pub data_dir: PathBuf,
    /// The cluster's secret; `None`: every host may join.
    pub join_token: Option<String>,
    /// Bytes that the layers may take.
    pub cache_quota: u64,
    /// Limit on bytes per second sent to peers.
    pub upload_rate: Option<u64>,
    /// Limit on bytes per second read from sources.
    pub registry_rate: Option<u64>,
    /// Registries under one operator, `http[s]://HOST[:PORT]`: a layer that several of them
    /// have is one swarm, and on the disk once.
    pub shared_registries: Vec<Url>,
    /// Token services whose tokens need not be shown to their registries.
    pub token_certificates: Vec<TokenCertificate>,
    /// How sources are verified.
    pub registry_tls: RegistryTls,
}

/// A supernode that has started.
pub struct Supernode {
    listener: TcpListener,
    router: axum::Router,
    engine: Engine,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Supernode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supernode")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Supernode {
    /// Starts on the bound listeners: `api` for the cluster API and the tracker, `peers` for
    /// pieces.
    ///
    /// # Errors
    /// The data directory cannot be used, or a certificate file cannot be read.
    pub fn start(
        config: &SupernodeConfig,
        api: TcpListener,
        peers: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let peer_port = peers.local_addr()?.port();
        let engine_config = EngineConfig {
            data_dir: config.data_dir.clone(),
            cache_quota: config.cache_quota,
            upload_rate: config.upload_rate,
            download_rate: None,
        };
        let engine = Engine::start(&engine_config, peers, shutdown.clone())?;
        if let Err(error) = control::offer(&engine, None) {
            tracing::warn!(%error, "no control socket: `flotilla cache` needs the supernode stopped");
        }
        let shared = config.shared_registries.iter().map(origin_of);
        engine.store().share_origins(shared);
        let source = Source::new(&SourceConfig {
            tls: config.registry_tls.clone(),
            rate: config.registry_rate,
        })?;
        let tokens = TokenVerifier::new(&config.token_certificates)?;
        let signer = ticket_signer(&config.data_dir.join("ticket-key"))?;
        engine.trust_tickets_of(signer.public_key());
        let key = signer.public_key();
        let tracker = Tracker::new(
            Membership::new(TrackerConfig::default(), rand::random()),
            Arc::new(move |request| admit(&key, request)),
        );
        let openings = Openings::new(engine.clone(), source, signer, tokens, peer_port);
        let router = api::router(&Api::new(
            openings,
            tracker,
            config.join_token.as_deref(),
            peer_port,
        ));
        Ok(Self {
            listener: api,
            router,
            engine,
            shutdown,
        })
    }

    /// Serves until the shutdown given to [`start`](Self::start).
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self) -> anyhow::Result<()> {
        let service = self
            .router
            .into_make_service_with_connect_info::<SocketAddr>();
        let shutdown = self.shutdown.clone();
        // An answer in two parts would wait for the acknowledgement of the first: 40 ms.
        let listener = self.listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
        });
        let serving = axum::serve(listener, service)
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        let drained = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving.into_future() => served?,
            () = drained => {}
        }
        self.engine.stopped().await;
        Ok(())
    }
}

/// Protected swarms admit who shows a ticket. A seeder takes nothing, so its ticket may have
/// expired since it was let in.
fn admit(key: &TicketKey, request: &AnnounceRequest) -> Admission {
    let ticket = match request.ticket.as_deref().map(str::parse::<SignedTicket>) {
        None => return Admission::Refused("this swarm is not open to strangers".to_owned()),
        Some(Err(error)) => return Admission::Refused(error.to_string()),
        Some(Ok(ticket)) => ticket,
    };
    match key.verify(&ticket, unix_now(), request.info_hash, request.peer_id) {
        Ok(_) => Admission::Member,
        Err(TicketError::Expired(_)) if request.left == 0 => Admission::Member,
        Err(error) => Admission::Refused(error.to_string()),
    }
}

/// The key kept at `path`, made on the first start.
fn ticket_signer(path: &Path) -> anyhow::Result<TicketSigner> {
    let shown = || format!("ticket key {}", path.display());
    match fs::read(path) {
        Ok(bytes) => TicketSigner::from_pkcs8(&bytes).with_context(shown),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (signer, pkcs8) = TicketSigner::generate().with_context(shown)?;
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(shown)?;
            file.write_all(&pkcs8).with_context(shown)?;
            file.sync_all().with_context(shown)?;
            Ok(signer)
        }
        Err(error) => Err(error).with_context(shown),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::{InfoHash, PeerId, Ticket};

    use super::*;

    fn announce(signer: &TicketSigner, left: u64, expires: u64) -> Admission {
        let (swarm, peer_id) = (InfoHash::from_bytes([1; 20]), PeerId::from_bytes([2; 20]));
        let ticket = signer.sign(&Ticket {
            swarm,
            peer_id,
            expires,
        });
        let request = AnnounceRequest {
            info_hash: swarm,
            peer_id,
            port: 1,
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left,
            event: None,
            numwant: None,
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: Some(ticket.to_string()),
        };
        admit(&signer.public_key(), &request)
    }

    #[test]
    fn a_seeder_stays_when_its_ticket_expires_and_a_leecher_does_not() {
        let (signer, _) = TicketSigner::generate().unwrap();
        assert_eq!(announce(&signer, 5, u64::MAX), Admission::Member);
        assert_eq!(announce(&signer, 0, 1), Admission::Member);
        assert!(matches!(announce(&signer, 5, 1), Admission::Refused(_)));
    }
}
