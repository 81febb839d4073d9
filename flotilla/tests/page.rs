//! The statistics page in a real browser.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod browser;
mod calls;
mod fake_source;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use browser::Browser;
use calls::Place;
use fake_source::{FakeSource, content, served};
use flotilla_torrents::node_report::{HostReport, NodeReport, SupernodeSeen, SwarmPart};
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{InfoHash, PeerId, Ticket, TicketSigner};

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn address_of(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// No complaint, and no request to anybody else.
fn assert_quiet(browser: &Browser, supernode: &str) {
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let own = format!("http://{supernode}/");
    let requested = browser.requested();
    assert!(
        requested.iter().any(|url| url.starts_with(&own)),
        "{requested:?}"
    );
    // The browser's own pages come from the browser.
    let inside = [own.as_str(), "data:", "chrome:", "about:"];
    let foreign = requested
        .iter()
        .filter(|url| !inside.iter().any(|inside| url.starts_with(inside)));
    let foreign: Vec<_> = foreign.collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn the_page_shows_a_swarm_while_it_arrives_and_the_numbers_of_the_api() {
    let place = Place::new();
    let running = place.daemon("supernode", Path::new("s"), &["--registry-rate", "2MB/s"]);
    let supernode = running.url();
    let address = address_of(supernode);
    let bytes = content(20_000_000, 1);
    let source = FakeSource::start(move |asked| served(asked, &bytes, "\"1\""));
    let url = source.url("image.bin");
    let gets = (1..=3).map(|number| {
        let out = format!("f{number}");
        let mut command = place.command(&[
            "get",
            &url,
            "-o",
            &out,
            "--supernode",
            supernode,
            "--no-fallback",
            "--seed-for",
            "300s",
            "--quiet",
        ]);
        Running(command.stdout(Stdio::null()).spawn().unwrap())
    });
    // The browser takes its time: it is there before the download begins.
    let browser = Browser::start(&place.path("profile"));
    browser.resize(1280, 900);
    let _gets: Vec<Running> = gets.collect();
    browser.open(&format!("{supernode}/#/swarms"));
    browser.wait_for("document.querySelectorAll('tbody tr').length === 1");
    browser.run("document.querySelector('tbody a').click();");
    browser.wait_for("document.querySelector('canvas.map')?.width > 0");
    browser.run(
        "window.map = () => document.querySelector('canvas.map').toDataURL();\
         window.words = () => document.querySelector('canvas.map').getAttribute('aria-label');\
         window.first = [map(), words()];",
    );
    browser
        .wait_for("map() !== first[0] && words() !== first[1] && words().includes('not here yet')");
    browser.screenshot("swarm-arriving.png");
    browser.wait_for(
        "document.querySelectorAll('main table')[0].innerText.match(/100 %/g)?.length === 3",
    );
    browser.wait_for("words().includes('all are here')");
    browser.screenshot("swarm.png");
    assert!(
        browser
            .run("return document.querySelectorAll('.graph line').length;")
            .as_u64()
            >= Some(3)
    );

    // Each cell is the API's number, in the page's own units.
    browser.run("location.hash = '#/swarms';");
    browser.wait_for(
        "await (async () => {
            const { bytes, count, percent, plural } = await import('/page/units.js');
            const [row] = (await (await fetch('/api/v1/swarms')).json()).items;
            const cells = Object.fromEntries([...document.querySelectorAll('tbody tr:first-child > *')].map((cell) => [cell.dataset.label, cell.textContent]));
            return cells['Size'] === bytes(row.size_bytes) && cells['Seeders'] === count(row.seeders) && cells['Seeders'] === '3'
              && cells['Leechers'] === count(row.leechers) && cells['Progress'] === percent(row.progress)
              && cells['Rarest piece'] === plural(row.rarest_copies, 'copy', 'copies') && row.rarest_copies === 4
              && cells['From registry'] === bytes(row.from_registry_bytes) && row.from_registry_bytes === 20000000
              && cells['From nodes'] === bytes(row.from_peers_bytes) && cells['Content'].startsWith(row.name);
        })()",
    );
    browser.run("location.hash = '#/';");
    browser.wait_for(
        "await (async () => {
            const { bytes, count } = await import('/page/units.js');
            const totals = await (await fetch('/api/v1/totals')).json();
            const facts = Object.fromEntries([...document.querySelectorAll('.facts div')].map((fact) => [fact.firstChild.textContent, fact.lastChild.textContent]));
            const hour = [...document.querySelectorAll('tbody tr')].find((row) => row.firstChild.textContent === 'last hour');
            const shown = [...hour.querySelectorAll('td')].map((cell) => cell.textContent).join();
            const of = totals.last_hour;
            const told = [of.from_registry_bytes, of.from_supernode_bytes, of.from_peers_bytes, of.saved_bytes];
            return facts['Nodes'] === count(totals.nodes) && totals.nodes === 3 && shown === told.map(bytes).join()
              && of.from_supernode_bytes + of.from_peers_bytes === 60000000;
        })()",
    );
    browser.screenshot("overview.png");
    let mut status = place.command(&["status", "--supernode", supernode]);
    let status = status.stdout(Stdio::piped()).output().unwrap();
    let out = String::from_utf8_lossy(&status.stdout);
    let told = "last hour: 19.07 MiB from registries, ";
    assert!(status.status.success() && out.contains(told), "{out}");
    assert!(
        out.contains("image.bin") && out.contains("3 have it, 0 do not"),
        "{out}"
    );
    browser.run("location.hash = '#/nodes';");
    browser.wait_for("document.querySelectorAll('tbody tr').length === 3");
    browser.run("document.querySelector('tbody a').click();");
    browser.wait_for("document.querySelector('h2')?.textContent === 'Pulls' && document.querySelectorAll('tbody tr').length >= 2");
    browser.screenshot("node.png");
    browser.run("location.hash = '#/cluster';");
    browser.wait_for(&format!(
        "document.querySelector('tbody')?.innerText.includes('http://{address}')"
    ));
    assert_quiet(&browser, address);
}

const NODES: u32 = 10_000;
const SWARMS: u32 = 1_000;

/// Names that would be something else than text, were they not shown as text.
fn name(number: u32) -> String {
    match number {
        0 => "<img src=x onerror=window.broken=1><script>window.broken=1</script>".to_owned(),
        1 => "\u{202e}gnp.tfel ot thgir".to_owned(),
        2 => "!".repeat(10_000),
        _ => format!("node-{number:05}"),
    }
}

fn id(number: u32) -> [u8; 20] {
    let mut bytes = [7; 20];
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Nodes that announce themselves, and do nothing else.
fn announce(place: &Place, address: &str) {
    let signer = TicketSigner::from_pkcs8(&place.read("s/ticket-key")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for number in 0..NODES {
        let (swarm, peer_id) = (
            InfoHash::from_bytes(id(number % SWARMS)),
            PeerId::from_bytes(id(number)),
        );
        let expires = u64::MAX;
        let ticket = signer.sign(&Ticket {
            swarm,
            peer_id,
            expires,
        });
        let request = AnnounceRequest {
            info_hash: swarm,
            peer_id,
            port: 65002,
            ip: None,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            numwant: Some(0),
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: Some(ticket.to_string()),
        };
        let report = NodeReport {
            node: name(number),
            version: "0.1.0".to_owned(),
            swarm: SwarmPart {
                is_first: true,
                from_peers: u64::from(number),
                ..SwarmPart::default()
            },
            host: HostReport {
                supernodes: vec![SupernodeSeen {
                    url: "javascript:window.broken=1".to_owned(),
                    reachable: true,
                }],
                ..HostReport::default()
            },
        };
        let head = format!(
            "GET /announce?{} HTTP/1.1\r\nhost: {address}\r\n{}: {}\r\n\r\n",
            request.to_query(),
            NodeReport::HEADER,
            report.to_header().unwrap()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reply = Vec::new();
        let mut buffer = [0; 4096];
        // The answer is short, and its end is a bencoded dictionary's.
        while !reply.ends_with(b"e") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the supernode hangs up");
            reply.extend_from_slice(&buffer[..read]);
        }
        assert!(
            !reply.windows(7).any(|part| part == b"failure"),
            "{}",
            String::from_utf8_lossy(&reply)
        );
    }
}

#[test]
fn ten_thousand_nodes_are_searched_sorted_and_paged_whatever_they_are_called() {
    let place = Place::new();
    let running = place.daemon("supernode", Path::new("s"), &[]);
    let address = address_of(running.url());
    announce(&place, address);
    let browser = Browser::start(&place.path("profile"));
    browser.resize(1280, 900);
    browser.open(&format!("http://{address}/#/nodes"));
    browser.wait_for("document.querySelector('caption')?.textContent === 'Nodes: 10,000 nodes'");
    let paint =
        browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime;");
    let rows = browser.run(
        "return performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/page/')).reduce((sum, entry) => Math.max(sum, entry.responseEnd), 0);",
    );
    println!("first contentful paint {paint} ms, script there after {rows} ms");
    assert_eq!(
        browser.run("return document.querySelectorAll('tbody tr').length;"),
        50
    );

    // Pages.
    let first = "document.querySelector('tbody tr').textContent";
    let before = browser.run(&format!("return {first};"));
    browser.run("[...document.querySelectorAll('button')].find((button) => button.textContent === 'Next').click();");
    browser.wait_for("document.querySelector('.bar').innerText.includes('page 2 of 200')");
    assert_ne!(browser.run(&format!("return {first};")), before);

    // Sorting, by the keyboard.
    browser.run("[...document.querySelectorAll('th button')].find((button) => button.textContent === 'From nodes').focus(); document.activeElement.click();");
    browser.wait_for("document.querySelector('th[aria-sort=descending]')?.textContent === 'From nodes' && document.querySelector('tbody tr')?.textContent.includes('node-09999')");
    assert_eq!(
        browser.run("return document.activeElement.textContent;"),
        "From nodes"
    );

    // Searching.
    let search = |text: &str| {
        browser.run(&format!(
            "const field = document.querySelector('input[type=search]'); field.focus(); field.value = {}; field.dispatchEvent(new Event('input'));",
            serde_json::to_string(text).unwrap()
        ));
    };
    search("NODE-0123");
    browser.wait_for("document.querySelector('caption').textContent === 'Nodes: 10 nodes' && document.querySelectorAll('tbody tr').length === 10");
    assert_eq!(browser.run("return document.activeElement.type;"), "search");

    // What others call themselves is text.
    for (text, found) in [
        ("<img", name(0)),
        ("tfel ot", name(1)),
        ("!!!!", "!".repeat(255)),
    ] {
        search(text);
        let found = serde_json::to_string(&found).unwrap();
        browser.wait_for(&format!("document.querySelectorAll('tbody tr').length === 1 && document.querySelector('tbody bdi').textContent === {found}"));
        browser.wait_for("document.documentElement.scrollWidth <= innerWidth");
    }
    browser.run("location.hash = '#/cluster';");
    browser.wait_for("document.querySelector('tbody')?.innerText.includes('javascript:')");
    assert_eq!(
        browser.run("return document.querySelectorAll('main img, main script, main a').length;"),
        0
    );
    assert_eq!(
        browser.run("return window.broken ?? null;"),
        serde_json::Value::Null
    );

    // On a phone, and in the dark.
    let light = browser.run("return getComputedStyle(document.body).backgroundColor;");
    browser.color_scheme("dark");
    browser.resize(360, 740);
    for view in ["", "swarms", "nodes", "cluster"] {
        browser.run(&format!("location.hash = '#/{view}';"));
        browser.wait_for("document.querySelectorAll('tbody tr').length > 0");
        browser.wait_for("document.documentElement.scrollWidth <= 360");
    }
    assert_ne!(
        browser.run("return getComputedStyle(document.body).backgroundColor;"),
        light
    );
    browser.run("location.hash = '#/nodes';");
    browser.wait_for("document.querySelector('caption')?.textContent === 'Nodes: 10,000 nodes'");
    browser.screenshot("nodes-phone-dark.png");
    assert_quiet(&browser, address);
}
