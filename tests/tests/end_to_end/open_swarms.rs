//! The supernode as a tracker and a seeder for strangers with stock clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_testbed::{
    Flotilla, Host, ImageBuilder, Lifetime, NodeProxy, Process, ProxyOptions, Registry, Supernode,
    Testbed, random_file,
};

use crate::torrents::{stock_clients, wait_all_have};

const DEADLINE: Duration = Duration::from_secs(180);
/// What aria2 waits for a byte before it gives up.
const BT_STOP_TIMEOUT: &str = "--bt-stop-timeout=10";

/// A supernode with one open repository, a node behind its proxy, and a stranger.
struct OpenRegistry {
    node_proxy: NodeProxy,
    supernode: Supernode,
    registry: Registry,
    node: Host,
    stranger: Host,
    images: ImageBuilder,
    flotilla: Flotilla,
    _testbed: Testbed,
}

impl OpenRegistry {
    fn start() -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let registry = Registry::start(&testbed.host("registry")?)?;
        let open = format!("{}/public/*", registry.address());
        let arguments = ["--open-repository".to_owned(), open];
        let supernode_host = testbed.host("supernode")?;
        let supernode = Supernode::start_with(&flotilla, &supernode_host, &arguments)?;
        let node = testbed.host("node")?;
        let options = ProxyOptions::with_supernodes(&[supernode.url()]);
        Ok(Self {
            node_proxy: NodeProxy::start(&flotilla, &node, &options)?,
            supernode,
            registry,
            node,
            stranger: testbed.host("stranger")?,
            images: ImageBuilder::new(&testbed.directory().join("image"))?,
            flotilla,
            _testbed: testbed,
        })
    }

    /// Pushes a layer of a new image to `repository` and pulls it through the node's proxy.
    /// Its digest, and where it is now, under the name that its torrent has.
    fn pulled_layer(&mut self, repository: &str) -> Result<(String, PathBuf)> {
        let image = self.images.image_of(&[3 << 20])?;
        image.push(&self.registry, repository, "1")?;
        let digest = image.layers[0].digest.clone();
        let file = self.node.directory().join(digest.replace(':', "-"));
        let login = self.registry.login();
        let mut curl = self.node.command("curl");
        curl.args(["--silent", "--show-error", "--fail"])
            .args(["--proxy", "http://127.0.0.1:65001", "--user"])
            .arg(format!("{}:{}", login.user, login.password))
            .arg("--output")
            .arg(&file)
            .arg(format!(
                "http://{}/v2/{repository}/blobs/{digest}",
                self.registry.address()
            ));
        let pulled = curl.output()?;
        ensure!(pulled.status.success(), "{pulled:?}");
        Ok((digest, file))
    }

    /// What the supernode tells a stranger: the status, and the torrent's file.
    fn torrent(&self, digest: &str) -> Result<(String, PathBuf)> {
        let file = self.stranger.directory().join(format!("{digest}.torrent"));
        let mut curl = self.stranger.command("curl");
        curl.args(["--silent", "--show-error", "--write-out", "%{http_code}"])
            .arg("--output")
            .arg(&file)
            .arg(format!(
                "{}/torrents/{digest}.torrent",
                self.supernode.url()
            ));
        let answered = curl.output()?;
        ensure!(answered.status.success(), "{answered:?}");
        Ok((String::from_utf8(answered.stdout)?, file))
    }

    /// Runs aria2 on the stranger's machine to its end.
    fn aria2(&self, torrent: &Path) -> Result<std::process::Output> {
        let mut aria2 = self.stranger.command("aria2c");
        aria2
            .arg(format!("--dir={}", self.stranger.directory().display()))
            .args([
                "--enable-dht=false",
                "--enable-dht6=false",
                "--no-conf=true",
            ])
            .args(["--bt-enable-lpd=false", "--seed-time=0", BT_STOP_TIMEOUT])
            .args(["--console-log-level=info", "--file-allocation=none"])
            .arg(torrent);
        Ok(aria2.output()?)
    }
}

#[test]
fn aria2_downloads_a_layer_of_an_open_repository_and_none_of_a_closed_one() -> Result<()> {
    let mut swarm = OpenRegistry::start()?;
    let (public, public_file) = swarm.pulled_layer("public/app")?;
    let (private, private_file) = swarm.pulled_layer("private/app")?;

    let (status, torrent) = swarm.torrent(&public)?;
    assert_eq!(status, "200", "{}", swarm.supernode.process.errors());
    let done = swarm.aria2(&torrent)?;
    assert!(done.status.success(), "{}", text(&done));
    let name = public_file.file_name().context("no name")?;
    let downloaded = fs::read(swarm.stranger.directory().join(name))?;
    assert!(downloaded == fs::read(&public_file)?, "other bytes");

    assert_eq!(swarm.torrent(&private)?.0, "404");
    // A client that has the torrent from elsewhere does not get the layer for it.
    let torrent = swarm.stranger.directory().join("private.torrent");
    let mut create = swarm.flotilla.command(&swarm.stranger);
    create
        .args(["torrent", "create", "--private", "--tracker"])
        .arg(format!("{}/announce", swarm.supernode.url()))
        .arg("-o")
        .args([&torrent, &private_file]);
    let created = create.output()?;
    ensure!(created.status.success(), "{created:?}");
    let refused = swarm.aria2(&torrent)?;
    assert!(!refused.status.success());
    let said = text(&refused);
    assert!(said.contains("not open to strangers"), "{said}");
    let name = private_file.file_name().context("no name")?;
    let expected = fs::read(&private_file)?;
    let got = fs::read(swarm.stranger.directory().join(name));
    assert!(!got.is_ok_and(|got| got == expected), "the layer leaked");
    assert!(swarm.node_proxy.process.is_running());
    Ok(())
}

fn text(output: &std::process::Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A supernode as the only tracker of a torrent that flotilla seeds, and machines without it.
struct OpenTorrent {
    /// Only what comes after it may end before it.
    seeding: Process,
    supernode: Supernode,
    leechers: [Host; 3],
    getters: [Host; 2],
    torrent: PathBuf,
    content: Vec<u8>,
    flotilla: Flotilla,
    _testbed: Testbed,
}

impl OpenTorrent {
    /// The torrent names the supernode by a URL of this scheme, `http` or `udp`, and no other tracker.
    fn start(scheme: &str) -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let supernode = Supernode::start(&flotilla, &testbed.host("supernode")?)?;
        let seeder = testbed.host("seeder")?;
        let file = seeder.directory().join("file");
        random_file(&file, 12 << 20)?;
        let torrent = seeder.directory().join("file.torrent");
        let tracker = supernode.url().replacen("http", scheme, 1);
        let mut create = flotilla.command(&seeder);
        create
            .args(["torrent", "create"])
            .arg(&file)
            .arg("-o")
            .arg(&torrent)
            .arg("--tracker")
            .arg(format!("{tracker}/announce"));
        let created = create.output()?;
        ensure!(created.status.success(), "{created:?}");
        let mut seed = flotilla.service(&seeder);
        seed.args(["torrent", "seed"])
            .arg(&torrent)
            .arg(seeder.directory())
            .args(["--supernode", supernode.url(), "--peer-listen"])
            .arg(format!("{}:6881", seeder.address()));
        let mut seeding = Process::start("seed", seeder.directory(), seed)?;
        seeding.wait_ready(DEADLINE, |seeding| seeding.output().contains("magnet"))?;
        Ok(Self {
            seeding,
            supernode,
            leechers: [
                testbed.host("aria2")?,
                testbed.host("transmission")?,
                testbed.host("libtorrent")?,
            ],
            getters: [testbed.host("getter")?, testbed.host("late")?],
            torrent,
            content: fs::read(&file)?,
            flotilla,
            _testbed: testbed,
        })
    }

    /// Starts stock clients with `source`, and waits until each has the file.
    fn stock_clients_have_it(&self, source: &str) -> Result<Vec<Process>> {
        let mut clients = stock_clients(&self.leechers, source)?;
        wait_all_have(&self.leechers, &mut clients, "file", &self.content)?;
        Ok(clients)
    }

    fn end_seeding(&mut self) -> Result<()> {
        let status = self.seeding.terminate(DEADLINE)?;
        ensure!(status.success(), "{}", self.seeding.errors());
        Ok(())
    }

    fn magnet(&self) -> Result<String> {
        let output = self.seeding.output();
        let at = output.find("magnet:").context("no magnet link")?;
        Ok(output[at..].trim().to_owned())
    }

    /// Starts `flotilla get`, which seeds afterwards.
    fn get(&self, getter: &Host) -> Result<Process> {
        let mut get = self.flotilla.service(getter);
        get.arg("get").arg(&self.torrent).arg("-o");
        get.arg(getter.directory().join("file"));
        get.args(["--seed-for", "10m"]);
        Process::start("get", getter.directory(), get)
    }
}

#[test]
fn stock_clients_and_a_flotilla_seeder_meet_at_the_supernode() -> Result<()> {
    let mut swarm = OpenTorrent::start("http")?;
    let _clients = swarm.stock_clients_have_it(&swarm.torrent.display().to_string())?;
    swarm.end_seeding()
}

#[test]
fn stock_clients_find_a_flotilla_seeder_by_udp_alone() -> Result<()> {
    let mut swarm = OpenTorrent::start("udp")?;
    let _clients = swarm.stock_clients_have_it(&swarm.torrent.display().to_string())?;
    swarm.end_seeding()
}

/// Before they have the metainfo they do not know what they miss, and aria2 says nothing.
#[test]
fn stock_clients_with_a_magnet_link_find_a_flotilla_seeder_by_http_and_by_udp() -> Result<()> {
    for scheme in ["http", "udp"] {
        let mut swarm = OpenTorrent::start(scheme)?;
        let _clients = swarm.stock_clients_have_it(&swarm.magnet()?)?;
        swarm.end_seeding()?;
    }
    Ok(())
}

#[test]
fn flotilla_leeches_among_stock_clients_and_from_those_that_are_left() -> Result<()> {
    let mut swarm = OpenTorrent::start("udp")?;
    let [getter, late] = &swarm.getters;
    let mut mixed = vec![swarm.get(getter)?];
    mixed.extend(stock_clients(
        &swarm.leechers,
        &swarm.torrent.display().to_string(),
    )?);
    let hosts: Vec<&Host> = std::iter::once(getter).chain(&swarm.leechers).collect();
    wait_all_have(&hosts, &mut mixed, "file", &swarm.content)?;
    // What it has, it gives on: to flotilla and to others.
    let stock = mixed.split_off(1);
    swarm.seeding.terminate(DEADLINE)?;
    let mut from_all = [swarm.get(late)?];
    wait_all_have(&[late], &mut from_all, "file", &swarm.content)?;
    drop(stock);
    drop(mixed);
    assert!(swarm.supernode.process.is_running());
    Ok(())
}
