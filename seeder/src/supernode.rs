//! The supernode: an engine whose swarms are fed from sources, a tracker, the cluster API.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flotilla_client::{Engine, EngineConfig, control, secret_file};
use flotilla_cluster::TicketSigner;
use flotilla_registry::egress::Egress;
use flotilla_registry::login::{LoginConfig, RegistryLogins};
use flotilla_registry::origin_of;
use flotilla_registry::source::{Source, SourceConfig};
use flotilla_registry::tls::RegistryTls;
use flotilla_registry::token::{TokenCertificate, TokenVerifier};
use flotilla_tracker::{LocalSeeder, Membership, Tracker, TrackerConfig};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::join_token::JoinToken;
use crate::api::router::router;
use crate::api::server::ApiServer;
use crate::api::state::Api;
use crate::preheat::Preheater;
use crate::preheat::jobs::Jobs;
use crate::preheat::triggers::{PreheatTriggers, Triggers};
use crate::public::layers::PublicLayers;
use crate::public::repositories::OpenRepository;
use crate::public::swarms::{PublicSwarms, SupernodeGate};
use crate::public::torrents as public_torrents;
use crate::stats::{self, Access, Events, HistoryFile, JobList, Statistics, Web};
use crate::swarms::SwarmOpener;

/// For the statistics to be saved at the end.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a supernode needs to know.
///
/// # Defaults
/// [`new`](Self::new) takes what has none. The others: no tokens, no limits, no shared registries, no
/// token services, the platform's certificate authorities, nothing public, no logins of its own.
#[derive(Clone, Debug)]
pub struct SupernodeConfig {
    /// Where layers and the ticket key are kept.
    pub data_dir: PathBuf,
    /// The cluster's secret; `None`: every host may join.
    pub join_token: Option<String>,
    /// Lets its bearer see the statistics, besides the join token.
    pub stats_token: Option<String>,
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
    /// Which HTTP proxies lead to registries.
    pub egress: Egress,
    /// Repositories whose layers are public.
    pub open_repositories: Vec<OpenRepository>,
    /// Registries that it turns to in its own name, and how it logs in there.
    pub logins: LoginConfig,
}

impl SupernodeConfig {
    /// A supernode that keeps layers of up to `cache_quota` bytes in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>, cache_quota: u64) -> Self {
        Self {
            data_dir: data_dir.into(),
            join_token: None,
            stats_token: None,
            cache_quota,
            upload_rate: None,
            registry_rate: None,
            shared_registries: Vec::new(),
            token_certificates: Vec::new(),
            registry_tls: RegistryTls::default(),
            egress: Egress::default(),
            open_repositories: Vec::new(),
            logins: LoginConfig::default(),
        }
    }
}

/// A supernode that has started.
pub struct Supernode {
    listener: TcpListener,
    udp: Option<UdpSocket>,
    api: Arc<Api>,
    triggers: Option<PreheatTriggers>,
    history: HistoryFile,
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
    /// The data directory cannot be used, or a file of certificates or credentials cannot be read.
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
            tracing::warn!(%error, "control socket not opened: `flotilla cache` works only while the supernode is stopped");
        }
        let shared = config.shared_registries.iter().map(origin_of);
        engine.store().share_origins(shared);
        let source = Source::new(&SourceConfig {
            tls: config.registry_tls.clone(),
            egress: config.egress.clone(),
            rate: config.registry_rate,
        })?;
        let logins = RegistryLogins::new(&config.logins, source.clone())?;
        let tokens = TokenVerifier::new(&config.token_certificates)?;
        let signer = ticket_signer(&config.data_dir.join("ticket-key"))?;
        engine.trust_tickets_of(signer.public_key());
        let public_swarms = PublicSwarms::new(engine.clone());
        let statistics = Statistics::new(Instant::now(), engine.peer_id());
        let history = HistoryFile::in_dir(&config.data_dir);
        statistics.recall(&history);
        let gate = SupernodeGate {
            ticket_key: signer.public_key(),
            open: public_swarms.clone(),
            statistics: statistics.clone(),
        };
        let local_seeder = LocalSeeder {
            peer_id: engine.peer_id(),
            listen: engine.listen_addr(),
        };
        let tracker = Tracker::new(
            Membership::new(TrackerConfig::default(), rand::random()),
            Arc::new(gate),
            Some(local_seeder),
        );
        let public_layers = PublicLayers::open(
            &config.data_dir.join("open-layers"),
            &config.open_repositories,
            |content| engine.store().has_content(content),
        )?;
        let opener = Arc::new(SwarmOpener::new(
            engine,
            source,
            logins,
            signer,
            tokens,
            public_layers,
            peer_port,
        ));
        let jobs = config.data_dir.join("preheat-jobs");
        let preheater = Preheater::new(Arc::clone(&opener), statistics.clone());
        let jobs = Jobs::open(jobs.clone(), preheater, shutdown.clone())
            .with_context(|| format!("preheat jobs in {}", jobs.display()))?;
        let listen = api.local_addr()?;
        let join_token = config.join_token.as_deref();
        let access = Access::new(join_token, config.stats_token.as_deref());
        let web = Web {
            statistics,
            jobs: JobList::new(jobs.clone()),
            access: access
                .map_err(|_| anyhow::anyhow!("the system gives no randomness for logins"))?,
            events: Events::new(shutdown.clone()),
        };
        Ok(Self {
            listener: api,
            udp: None,
            api: Api::new(
                opener,
                tracker,
                public_swarms,
                jobs,
                JoinToken::new(join_token),
                listen,
                web,
            ),
            triggers: None,
            history,
            shutdown,
        })
    }

    /// Runs the UDP tracker on `socket` as well.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn with_udp_tracker(mut self, socket: UdpSocket) -> anyhow::Result<Self> {
        let port = socket.local_addr()?.port();
        self.api.udp_port.get_or_init(|| port);
        self.udp = Some(socket);
        Ok(self)
    }

    /// Lets Harbor and other triggers ask for preheats. Without this, a caller on this host may
    /// when the API listens on loopback, and a caller that sends the join token.
    ///
    /// # Errors
    /// There are too many platforms.
    pub fn with_preheat_triggers(mut self, triggers: PreheatTriggers) -> anyhow::Result<Self> {
        triggers.check()?;
        self.triggers.get_or_insert(triggers);
        Ok(self)
    }

    /// Serves until the shutdown given to [`start`](Self::start).
    ///
    /// # Errors
    /// The UDP tracker's socket fails; a connection that fails fails alone.
    pub async fn serve(self) -> anyhow::Result<()> {
        let triggers = Triggers::new(
            self.api.jobs.clone(),
            self.triggers,
            self.api.join_token.clone(),
            self.api.listen,
        );
        let server = ApiServer::new(self.listener, router(&self.api, triggers));
        self.api.jobs.resume();
        tokio::spawn(public_torrents::open_known(Arc::clone(&self.api)));
        let opener = &self.api.opener;
        let watching = tokio::spawn(stats::watch_engine(
            self.api.web.statistics.clone(),
            opener.engine.clone(),
            opener.source.clone(),
            self.history,
            self.shutdown.clone(),
        ));
        let (tracker, udp) = (self.api.tracker.clone(), self.udp);
        let udp_shutdown = self.shutdown.clone();
        let serving_udp = async {
            match udp {
                Some(socket) => tracker.serve_udp(socket, udp_shutdown).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = server.serve(self.shutdown) => {}
            Err(error) = serving_udp => return Err(error).context("UDP tracker"),
        }
        self.api.opener.engine.stopped().await;
        // A disk that hangs does not keep it from stopping.
        match tokio::time::timeout(SAVE_TIMEOUT, watching).await {
            Ok(watched) => watched.context("statistics"),
            Err(_) => Ok(()),
        }
    }
}

/// The key kept at `path`, made on the first start.
fn ticket_signer(path: &Path) -> anyhow::Result<TicketSigner> {
    let subject = || format!("ticket key {}", path.display());
    if !path.try_exists().with_context(subject)? {
        let (_, pkcs8) = TicketSigner::generate().with_context(subject)?;
        secret_file::create(path, &pkcs8).with_context(subject)?;
    }
    let pkcs8 = fs::read(path).with_context(subject)?;
    TicketSigner::from_pkcs8(&pkcs8).with_context(subject)
}
