//! Every client against every kind of registry: a pull, a push where the client can push
//! through a proxy, and a private image refused without login.

mod containers_tools;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flotilla_testbed::{
    Containerd, DockerEngine, EngineOptions, Flotilla, Host, Image, ImageBuilder, Lifetime,
    NodeProxy, ProxyOptions, Registry, RegistryKind, Supernode, Table, Testbed,
};

use self::containers_tools::{Tool, Way};

/// A swarm, and two layers too small for one.
const LAYERS: [u64; 3] = [2 << 20, 300 << 10, 2 << 10];
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const PROXY: &str = "http://127.0.0.1:65001";

/// One registry, and a node whose proxy is set up for it.
struct Scene<'a> {
    registry: &'a Registry,
    node: &'a Host,
    images: &'a mut ImageBuilder,
    /// The CA that clients of the proxy trust.
    proxy_ca: Option<PathBuf>,
    scratch: PathBuf,
}

/// What one client did.
#[derive(Default)]
struct Row {
    pull: Option<Result<()>>,
    push: Option<Result<()>>,
    refused: Option<Result<()>>,
}

#[test]
fn every_client_works_with_every_registry() -> Result<()> {
    let flotilla = Flotilla::find()?;
    let mut table = Table::new(&["client, registry", "pull", "push", "refused"]);
    let mut failures = Vec::new();
    for (name, kind) in [
        ("http, Basic", RegistryKind::PlainBasic),
        ("https, Bearer", RegistryKind::HttpsBearer),
        ("redirects", RegistryKind::Redirecting),
    ] {
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let registry_host = testbed.host("registry")?;
        let supernode_host = testbed.host("supernode")?;
        let node = testbed.host("node")?;
        let registry = Registry::start_as(kind, &registry_host)?;
        let trust = match registry.ca() {
            None => Vec::new(),
            Some(ca) => vec!["--registry-ca".to_owned(), ca.display().to_string()],
        };
        let supernode = Supernode::start_with(&flotilla, &supernode_host, &trust)?;
        let mut options = ProxyOptions::with_supernodes(&[supernode.url()]);
        let url = format!("{}://{}", registry.scheme(), registry.address());
        options.arguments = trust;
        for argument in ["--registry", &url, "--mirror-host", &url] {
            options.arguments.push(argument.to_owned());
        }
        if registry.ca().is_some() {
            options.arguments.push("--intercept".to_owned());
            options.arguments.push(registry.address());
        }
        let _proxy = NodeProxy::start(&flotilla, &node, &options)?;
        let mut images = ImageBuilder::new(&testbed.directory().join("image"))?;
        let proxy_ca = registry.ca().map(|_| node.directory().join("node/ca.crt"));
        let mut scene = Scene {
            registry: &registry,
            node: &node,
            images: &mut images,
            proxy_ca,
            scratch: testbed.directory().join("clients"),
        };
        std::fs::create_dir_all(&scene.scratch)?;
        let mut rows = vec![
            ("docker, HTTP proxy".to_owned(), scene.docker_by_proxy()),
            (
                "docker, registry mirror".to_owned(),
                scene.docker_by_mirror(),
            ),
            ("containerd (ctr), mirror".to_owned(), scene.containerd()),
            ("containerd (CRI), mirror".to_owned(), scene.cri()),
        ];
        for tool in [Tool::Podman, Tool::Buildah, Tool::Skopeo] {
            for way in [Way::Proxy, Way::Mirror] {
                rows.push((format!("{tool}, {way}"), scene.tool(tool, way)));
            }
        }
        for (client, row) in rows {
            let Row {
                pull,
                push,
                refused,
            } = row;
            let cells = [("pull", pull), ("push", push), ("refused", refused)];
            let cells = cells.map(|(what, cell)| match cell {
                None => "-".to_owned(),
                Some(Ok(())) => "ok".to_owned(),
                Some(Err(error)) => {
                    failures.push(format!("{client}, {name}, {what}: {error:#}"));
                    "FAILED".to_owned()
                }
            });
            let [pull, push, refused] = cells;
            table.row(&[format!("{client}; {name}"), pull, push, refused]);
        }
    }
    // Past the test harness, which shows only what failing tests print.
    write!(std::io::stdout(), "\n{table}")?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

impl Scene<'_> {
    /// A new image in the registry, unknown to the swarm: its reference and the image.
    fn push_image(&mut self, repository: &str) -> Result<(String, Image)> {
        let layers: Result<Vec<_>> = LAYERS
            .iter()
            .map(|size| self.images.random_layer(*size))
            .collect();
        let image = self.images.image(&layers?)?;
        let reference = image.push(self.registry, repository, "1")?;
        Ok((reference, image))
    }

    /// The node's proxy took the image's large layer from the swarm.
    fn assert_in_swarm(&self, image: &Image) -> Result<()> {
        let layer = image.layers.first().context("no layer")?;
        let hex = layer.digest.trim_start_matches("sha256:");
        let kept = std::fs::read_dir(self.node.directory().join("node/layers"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .any(|name| name.contains(hex));
        ensure!(kept, "the pull went past the swarm");
        Ok(())
    }

    /// The registry has the image that was pushed through the proxy, whole.
    fn assert_pushed(&self, reference: &str, image: &Image) -> Result<()> {
        let target = self.scratch.join("pushed");
        let tool = self.tool_setup(Tool::Skopeo, Way::Direct)?;
        let digests = tool.copy_out(reference, &target, true)?;
        std::fs::remove_dir_all(&target)?;
        ensure!(digests.len() > image.layers.len(), "layers are missing");
        Ok(())
    }

    fn engine(&self, store: &str, options: &EngineOptions) -> Result<DockerEngine> {
        let mut engine = DockerEngine::start(self.node, store, options)?;
        engine.wait_ready()?;
        Ok(engine)
    }

    fn engine_options(&self, ca: Option<PathBuf>) -> EngineOptions {
        let plain = self.registry.ca().is_none();
        EngineOptions {
            plain_registries: plain.then(|| self.registry.address()).into_iter().collect(),
            ca,
            ..EngineOptions::default()
        }
    }

    fn docker_by_proxy(&mut self) -> Row {
        let mut row = Row::default();
        let done = self.docker_by_proxy_cells(&mut row);
        blame(&mut row, done);
        row
    }

    fn docker_by_proxy_cells(&mut self, row: &mut Row) -> Result<()> {
        let (reference, image) = self.push_image("docker/proxy")?;
        let address = self.registry.address();
        let direct = self.engine("docker-direct", &self.engine_options(self.registry.ca()))?;
        direct.login(&address, self.registry.login())?;
        direct.pull(&reference)?;
        let expected = direct.image_id(&reference)?;
        direct.discard()?;
        let options = EngineOptions {
            http_proxy: Some(PROXY.to_owned()),
            ..self.engine_options(self.proxy_ca.clone())
        };
        let engine = self.engine("docker-proxy", &options)?;
        row.refused = Some(refused(engine.pull(&reference).map(drop)));
        engine.login(&address, self.registry.login())?;
        let pulled = engine
            .pull(&reference)
            .and_then(|_| engine.image_id(&reference));
        let pulled = pulled.and_then(|id| same(&id, &expected));
        row.pull = Some(pulled.and_then(|()| self.assert_in_swarm(&image)));
        // And warm.
        engine.remove_image(&reference)?;
        engine.pull(&reference)?;
        row.push = Some(self.docker_push(&engine));
        engine.discard()
    }

    fn docker_push(&mut self, engine: &DockerEngine) -> Result<()> {
        let layers = vec![self.images.random_layer(1 << 20)?];
        let image = self.images.image(&layers)?;
        let reference = format!("{}/docker/pushed:1", self.registry.address());
        engine.load(&image.archive(&reference)?)?;
        engine.push(&reference)?;
        self.assert_pushed(&reference, &image)
    }

    fn docker_by_mirror(&mut self) -> Row {
        let mut row = Row::default();
        let done = self.docker_by_mirror_cells(&mut row);
        blame(&mut row, done);
        row
    }

    /// Mirrors are for names of Docker Hub, and no client pushes to one.
    fn docker_by_mirror_cells(&mut self, row: &mut Row) -> Result<()> {
        let (_, image) = self.push_image("demo/mirrored")?;
        let options = EngineOptions {
            registry_mirrors: vec![PROXY.to_owned()],
            ..self.engine_options(self.proxy_ca.clone())
        };
        let engine = self.engine("docker-mirror", &options)?;
        let reference = "demo/mirrored:1";
        // The engine then asks Docker Hub itself, whose error it shows.
        let anonymous = engine.pull(reference).err();
        row.refused = Some(anonymous.map(drop).context("not refused"));
        engine.note_login(DOCKER_HUB, self.registry.login())?;
        let pulled = engine
            .pull(reference)
            .and_then(|_| engine.image_id(reference));
        let pulled = pulled.and_then(|id| same(&id, &image.id));
        row.pull = Some(pulled.and_then(|()| self.assert_in_swarm(&image)));
        engine.discard()
    }

    fn containerd(&mut self) -> Row {
        let mut row = Row::default();
        let done = self.containerd_cells(&mut row);
        blame(&mut row, done);
        row
    }

    /// containerd pushes past mirrors.
    fn containerd_cells(&mut self, row: &mut Row) -> Result<()> {
        let (reference, image) = self.push_image("containerd/app")?;
        let containerd = Containerd::start(self.node, self.registry)?;
        row.refused = Some(refused(containerd.fetch_anonymously(&reference)));
        let has_all = || {
            for layer in &image.layers {
                ensure!(
                    containerd.has(&layer.digest)?,
                    "{} is missing",
                    layer.digest
                );
            }
            Ok(())
        };
        let fetched = containerd.fetch(&reference, self.registry);
        let fetched = fetched.and_then(|()| has_all());
        row.pull = Some(fetched.and_then(|()| self.assert_in_swarm(&image)));
        Ok(())
    }

    fn cri(&mut self) -> Row {
        let mut row = Row::default();
        let done = self.cri_cells(&mut row);
        blame(&mut row, done);
        row
    }

    fn cri_cells(&mut self, row: &mut Row) -> Result<()> {
        let (reference, image) = self.push_image("containerd/cri")?;
        let containerd = Containerd::start(self.node, self.registry)?;
        row.refused = Some(refused(containerd.pull_by_cri(&reference, None).map(drop)));
        let pulled = containerd.pull_by_cri(&reference, Some(self.registry.login()));
        let pulled = pulled.and_then(|id| same(&id, &image.id));
        row.pull = Some(pulled.and_then(|()| self.assert_in_swarm(&image)));
        Ok(())
    }

    fn tool(&mut self, tool: Tool, way: Way) -> Row {
        let mut row = Row::default();
        let done = self.tool_cells(tool, way, &mut row);
        blame(&mut row, done);
        row
    }

    fn tool_cells(&mut self, tool: Tool, way: Way, row: &mut Row) -> Result<()> {
        let (reference, image) = self.push_image(&format!("{tool}/{}", way.word()))?;
        let setup = self.tool_setup(tool, way)?;
        row.refused = Some(refused(setup.pull(&reference, false).map(drop)));
        let pulled = setup.pull(&reference, true);
        let pulled = pulled.and_then(|id| same(&id, &image.id));
        row.pull = Some(pulled.and_then(|()| self.assert_in_swarm(&image)));
        if way == Way::Proxy {
            let pushed = format!("{}/{tool}/pushed:1", self.registry.address());
            let done = setup.push(&reference, &pushed);
            row.push = Some(done.and_then(|()| self.assert_pushed(&pushed, &image)));
        }
        Ok(())
    }

    fn tool_setup(&self, tool: Tool, way: Way) -> Result<containers_tools::Setup> {
        let ca = match way {
            Way::Proxy => self.proxy_ca.clone(),
            Way::Direct | Way::Mirror => self.registry.ca(),
        };
        let directory = self.scratch.join(format!("{tool}-{}", way.word()));
        containers_tools::Setup::new(self.node, self.registry, tool, way, ca, &directory)
    }
}

fn same(found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "{found} instead of {expected}");
    Ok(())
}

/// Turns an outcome that has to be a refusal around.
fn refused(outcome: Result<()>) -> Result<()> {
    let error = outcome.err().context("not refused")?;
    let text = format!("{error:#}").to_lowercase();
    let words = [
        "unauthorized",
        "authentication required",
        "denied",
        "401",
        "no basic auth",
    ];
    ensure!(
        words.iter().any(|word| text.contains(word)),
        "failed, but not refused: {text}"
    );
    Ok(())
}

/// What went wrong before a cell was reached is the failure of its pull.
fn blame(row: &mut Row, done: Result<()>) {
    if let Err(error) = done {
        row.pull = Some(Err(error));
    }
}

/// The file's content as text, or empty.
fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
