//! A registry, supernodes, and nodes with a proxy and a Docker engine each.

use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_testbed::{
    DockerEngine, EngineOptions, Flotilla, Host, ImageBuilder, Lifetime, LinkRate, NodeProxy,
    ProxyOptions, Registry, Supernode, Testbed, wait_until,
};

const MID_PULL: Duration = Duration::from_secs(120);

/// What a test needs.
#[derive(Clone, Copy, Debug)]
pub struct ClusterPlan {
    /// Nodes, each with proxy and engine.
    pub nodes: u16,
    /// Supernodes.
    pub supernodes: u16,
    /// Speed of every link; none: not limited.
    pub rate: Option<LinkRate>,
}

impl Default for ClusterPlan {
    /// Five nodes, one supernode, fast links.
    fn default() -> Self {
        Self {
            nodes: 5,
            supernodes: 1,
            rate: None,
        }
    }
}

/// A cluster in which everything runs and every engine is logged in.
///
/// Dropped from the top: engines and proxies end before their network goes.
#[derive(Debug)]
pub struct Cluster {
    /// The engines, one a node.
    pub engines: Vec<DockerEngine>,
    /// The proxies, one a node.
    pub proxies: Vec<NodeProxy>,
    /// The supernodes.
    pub supernodes: Vec<Supernode>,
    /// The registry, which requires a login.
    pub registry: Registry,
    /// The nodes' machines.
    pub nodes: Vec<Host>,
    /// The supernodes' machines.
    pub supernode_hosts: Vec<Host>,
    /// Makes images.
    pub images: ImageBuilder,
    /// The binary under test.
    pub flotilla: Flotilla,
    /// The network.
    pub testbed: Testbed,
}

impl Cluster {
    /// Starts everything.
    ///
    /// # Errors
    /// A program is missing or does not start, or this is not root.
    pub fn start(plan: ClusterPlan) -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let registry_host = testbed.host("registry")?;
        let supernode_hosts = hosts(&mut testbed, "supernode", plan.supernodes)?;
        let nodes = hosts(&mut testbed, "node", plan.nodes)?;
        if let Some(rate) = plan.rate {
            let all = nodes.iter().chain(&supernode_hosts);
            for host in all.chain([&registry_host]) {
                host.shape(rate)?;
            }
        }
        let registry = Registry::start(&registry_host)?;
        let supernodes = supernode_hosts
            .iter()
            .map(|host| Supernode::start(&flotilla, host))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            engines: Vec::new(),
            proxies: Vec::new(),
            supernodes,
            registry,
            nodes,
            supernode_hosts,
            images: ImageBuilder::new(&testbed.directory().join("image"))?,
            flotilla,
            testbed,
        };
        for node in 0..cluster.nodes.len() {
            let proxy = cluster.start_proxy(node)?;
            cluster.proxies.push(proxy);
        }
        let proxied = EngineOptions::proxied(&cluster.registry);
        cluster.engines = cluster.start_engines("docker", &proxied)?;
        Ok(cluster)
    }

    /// Starts the proxy of a node, which must not be running.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_proxy(&self, node: usize) -> Result<NodeProxy> {
        let urls: Vec<&str> = self.supernodes.iter().map(Supernode::url).collect();
        let options = ProxyOptions::with_supernodes(&urls);
        let host = self.nodes.get(node).context("no such node")?;
        NodeProxy::start(&self.flotilla, host, &options)
    }

    /// Starts further engines, one on each node, with stores of their own, and logs them in.
    ///
    /// # Errors
    /// One does not start.
    pub fn start_engines(&self, store: &str, options: &EngineOptions) -> Result<Vec<DockerEngine>> {
        let engines = self
            .nodes
            .iter()
            .map(|node| DockerEngine::start(node, store, options));
        let mut engines = engines.collect::<Result<Vec<_>>>()?;
        for engine in &mut engines {
            engine.wait_ready()?;
            engine.login(&self.registry.address(), self.registry.login())?;
        }
        Ok(engines)
    }

    /// Waits until `host` has received `bytes` more than `since`.
    ///
    /// # Errors
    /// It does not within two minutes.
    pub fn wait_received(&self, host: &Host, since: u64, bytes: u64) -> Result<()> {
        let what = format!("{} has received {bytes} bytes", host.name());
        wait_until(&what, MID_PULL, || {
            let received = host.interface_bytes()?.received;
            Ok((received.saturating_sub(since) >= bytes).then_some(()))
        })
    }

    /// The id of the image on every engine.
    ///
    /// # Errors
    /// One has no such image.
    pub fn image_ids(&self, reference: &str) -> Result<Vec<String>> {
        self.engines
            .iter()
            .map(|engine| engine.image_id(reference))
            .collect()
    }
}

fn hosts(testbed: &mut Testbed, role: &str, count: u16) -> Result<Vec<Host>> {
    (1..=count)
        .map(|number| testbed.host(&format!("{role}{number}")))
        .collect()
}
