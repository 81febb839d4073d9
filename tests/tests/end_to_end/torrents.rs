//! `flotilla torrent seed` and stock clients, which find it by a tracker.

use std::borrow::Borrow;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flotilla_testbed::{Flotilla, Host, Lifetime, Process, Testbed, random_file, wait_until};

const DEADLINE: Duration = Duration::from_secs(180);
const SIZE: u64 = 12 << 20;
const FILE: &str = "file";
const PORT: &str = "6881";
const TRACKER_PORT: &str = "8000";
/// Debian's own interpreter has Debian's libtorrent; another one on PATH has not.
const PYTHON: &str = "/usr/bin/python3";

/// transmission-cli ends when it happens to look while it turns a magnet link into a torrent, which
/// it calls stopped; started again it continues. It ends with the shell.
const TRANSMISSION: &str =
    r#"while :; do setpriv --pdeathsig KILL -- transmission-cli "$@"; sleep 1; done"#;

/// aria2 asks UDP trackers only with DHT ("udp is not supported yet" without), which finds no peer
/// here: no other peer has it, and it hears of no node.
const ARIA2_UDP: [&str; 3] = [
    "--enable-dht=true",
    "--enable-dht6=false",
    "--dht-listen-port=6881",
];

/// A tracker, a seeder, and three machines with a stock client each.
struct Swarm {
    /// Only what comes after it may end before it.
    seeder: Process,
    tracker: Process,
    leechers: [Host; 3],
    seeder_host: Host,
    getter: Host,
    source: String,
    flotilla: Flotilla,
    _testbed: Testbed,
}

impl Swarm {
    fn start(by_magnet: bool) -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let tracker_host = testbed.host("tracker")?;
        let script = tracker_host.directory().join("tracker.py");
        fs::write(&script, include_str!("torrents/tracker.py"))?;
        let mut command = tracker_host.service(PYTHON);
        command
            .arg(&script)
            .arg(tracker_host.address().to_string())
            .arg(TRACKER_PORT);
        let tracker = Process::start("tracker", tracker_host.directory(), command)?;
        let announce = format!("http://{}:{TRACKER_PORT}/announce", tracker_host.address());

        let seeder_host = testbed.host("seeder")?;
        let content = seeder_host.directory().join(FILE);
        random_file(&content, SIZE)?;
        let torrent = seeder_host.directory().join("file.torrent");
        let mut create = flotilla.command(&seeder_host);
        create.args(["torrent", "create"]).arg(&content);
        create
            .arg("-o")
            .arg(&torrent)
            .args(["--tracker", &announce]);
        let created = create.output()?;
        ensure!(created.status.success(), "{created:?}");
        let mut seed = flotilla.service(&seeder_host);
        seed.args(["torrent", "seed"])
            .arg(&torrent)
            .arg(seeder_host.directory())
            .args([
                "--peer-listen",
                &format!("{}:{PORT}", seeder_host.address()),
            ]);
        let mut seeder = Process::start("seed", seeder_host.directory(), seed)?;
        seeder.wait_ready(DEADLINE, |seeder| seeder.output().contains("magnet:"))?;
        let source = if by_magnet {
            let output = seeder.output();
            let at = output.find("magnet:").context("no magnet link")?;
            output[at..].trim().to_owned()
        } else {
            torrent.display().to_string()
        };
        Ok(Self {
            seeder,
            tracker,
            leechers: [
                testbed.host("aria2")?,
                testbed.host("transmission")?,
                testbed.host("libtorrent")?,
            ],
            seeder_host,
            getter: testbed.host("getter")?,
            source,
            flotilla,
            _testbed: testbed,
        })
    }

    fn expected(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.seeder_host.directory().join(FILE))?)
    }

    /// Once the stock clients have the file, a host gets it from them while they leave one by one,
    /// flotilla's own seeder first.
    fn dwindles(mut self) -> Result<()> {
        let mut clients = stock_clients(&self.leechers, &self.source)?;
        let expected = self.expected()?;
        wait_all_have(&self.leechers, &mut clients, FILE, &expected)?;
        self.seeder.terminate(DEADLINE)?;
        let output = self.getter.directory().join("got");
        while !clients.is_empty() {
            let mut get = self.flotilla.command(&self.getter);
            get.args(["get", &self.source, "-o"]).arg(&output);
            let got = get.output()?;
            ensure!(got.status.success(), "{} left: {got:?}", clients.len());
            ensure!(is(&output, &expected), "{} left: it differs", clients.len());
            fs::remove_file(&output)?;
            clients.remove(0).terminate(DEADLINE)?;
        }
        Ok(())
    }

    fn all_have_it(mut self) -> Result<()> {
        let mut clients = stock_clients(&self.leechers, &self.source)?;
        wait_all_have(&self.leechers, &mut clients, FILE, &self.expected()?)?;
        let status = self.seeder.terminate(DEADLINE)?;
        assert!(status.success(), "{}", self.seeder.errors());
        let seen = self.tracker.output();
        let seeder = self.seeder_host.address();
        for event in ["started", "stopped"] {
            let line = format!("{event} {seeder} {PORT} 0\n");
            assert!(seen.contains(&line), "no {line:?} in {seen}");
        }
        Ok(())
    }
}

/// aria2, transmission and libtorrent, in this order, download `source`.
pub(crate) fn stock_clients(hosts: &[Host; 3], source: &str) -> Result<Vec<Process>> {
    let [aria2_host, transmission_host, libtorrent_host] = hosts;
    let mut aria2 = aria2_host.service("aria2c");
    aria2
        .arg(format!("--dir={}", aria2_host.directory().display()))
        .arg(format!("--listen-port={PORT}"))
        .args(ARIA2_UDP)
        .arg(format!(
            "--dht-file-path={}/dht.dat",
            aria2_host.directory().display()
        ))
        .args(["--bt-enable-lpd=false", "--seed-ratio=0.0"])
        .args(["--file-allocation=none", "--no-conf=true"])
        .arg(source);
    let config = transmission_host.directory().join("config");
    fs::create_dir(&config)?;
    // uTP is tried first and for long; the rest would look for peers elsewhere.
    let settings = r#"{"utp-enabled": false, "dht-enabled": false, "lpd-enabled": false}"#;
    fs::write(config.join("settings.json"), settings)?;
    let mut transmission = transmission_host.service("sh");
    transmission
        .args(["-c", TRANSMISSION, "sh"])
        .arg("--config-dir")
        .arg(&config)
        .arg("--download-dir")
        .arg(transmission_host.directory())
        .args(["--port", PORT, "--no-portmap"])
        .arg(source);
    let script = libtorrent_host.directory().join("libtorrent_client.py");
    fs::write(
        &script,
        include_str!("../../../get/tests/stock_clients/libtorrent_client.py"),
    )?;
    let mut libtorrent = libtorrent_host.service(PYTHON);
    libtorrent
        .arg(&script)
        .arg(source)
        .arg(libtorrent_host.directory())
        .args([&libtorrent_host.address().to_string(), PORT]);
    let commands = [aria2, transmission, libtorrent];
    let mut clients = Vec::new();
    for (host, command) in hosts.iter().zip(commands) {
        clients.push(Process::start(host.name(), host.directory(), command)?);
    }
    Ok(clients)
}

/// Waits until each client has written `expected` into the file of this name.
pub(crate) fn wait_all_have<H: Borrow<Host>>(
    hosts: &[H],
    clients: &mut [Process],
    name: &str,
    expected: &[u8],
) -> Result<()> {
    for (host, client) in hosts.iter().zip(clients) {
        let host = host.borrow();
        let file = host.directory().join(name);
        let what = format!("{} has the file", host.name());
        wait_until(&what, DEADLINE, || {
            if !client.is_running() {
                bail!(
                    "{} ended: {}{}",
                    host.name(),
                    client.output(),
                    client.errors()
                );
            }
            Ok(is(&file, expected).then_some(()))
        })?;
    }
    Ok(())
}

fn is(file: &Path, expected: &[u8]) -> bool {
    fs::read(file).is_ok_and(|found| found == expected)
}

#[test]
fn stock_clients_find_the_seeder_by_the_tracker_and_have_the_file() -> Result<()> {
    Swarm::start(false)?.all_have_it()
}

#[test]
fn stock_clients_with_a_magnet_link_have_the_metainfo_from_the_seeder() -> Result<()> {
    Swarm::start(true)?.all_have_it()
}

#[test]
fn flotilla_gets_the_file_from_the_stock_clients_that_are_left() -> Result<()> {
    Swarm::start(false)?.dwindles()
}

#[test]
fn flotilla_gets_the_file_by_magnet_from_the_stock_clients_that_are_left() -> Result<()> {
    Swarm::start(true)?.dwindles()
}
