//! `flotilla get`: a file of a plain web server through the swarm.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flotilla_testbed::{
    Flotilla, Get, GetOptions, Host, Lifetime, LinkRate, NginxOrigin, NodeProxy, Process,
    ProxyOptions, Supernode, Testbed, random_file, wait_until,
};

const SIZE: u64 = 24 << 20;
const DEADLINE: Duration = Duration::from_secs(120);
const FILE: &str = "file";

struct Source {
    supernode: Supernode,
    origin: NginxOrigin,
    nodes: Vec<Host>,
    flotilla: Flotilla,
    _testbed: Testbed,
}

impl Source {
    fn start(nodes: u16) -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let origin = NginxOrigin::start(&testbed.host("origin")?)?;
        random_file(&origin.files().join(FILE), SIZE)?;
        let supernode = Supernode::start(&flotilla, &testbed.host("supernode")?)?;
        let nodes = (1..=nodes).map(|number| testbed.host(&format!("node{number}")));
        Ok(Self {
            supernode,
            origin,
            nodes: nodes.collect::<Result<_>>()?,
            flotilla,
            _testbed: testbed,
        })
    }

    fn get(&self, node: usize, arguments: &[&str]) -> Result<Get> {
        let options = GetOptions {
            supernodes: vec![self.supernode.url().to_owned()],
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
        };
        Get::start(
            &self.flotilla,
            &self.nodes[node],
            &self.origin.url(FILE),
            &options,
        )
    }

    fn expected(&self) -> Result<Vec<u8>> {
        fs::read(self.origin.files().join(FILE)).context("cannot read the origin's file")
    }

    fn digest(&self) -> Result<String> {
        let path = self.origin.files().join(FILE);
        let output = std::process::Command::new("sha256sum").arg(path).output()?;
        let text = String::from_utf8(output.stdout)?;
        let hex = text
            .split(' ')
            .next()
            .context("sha256sum printed nothing")?;
        Ok(format!("sha256:{hex}"))
    }
}

fn wait_complete(get: &mut Get) -> Result<()> {
    wait_until("the file appears", DEADLINE, || {
        if get.is_complete() {
            return Ok(Some(()));
        }
        if !get.process.is_running() {
            bail!("get ended: {}", get.process.errors());
        }
        Ok(None)
    })
}

#[test]
fn a_file_arrives_whole_and_the_exit_code_says_so() -> Result<()> {
    let source = Source::start(1)?;
    let digest = source.digest()?;
    let mut get = source.get(0, &["--digest", &digest])?;
    let status = get.process.wait_exit(DEADLINE)?;
    assert!(status.success(), "{}", get.process.errors());
    assert!(
        fs::read(get.file())? == source.expected()?,
        "the file differs"
    );
    Ok(())
}

#[test]
fn a_file_that_does_not_match_its_digest_never_appears() -> Result<()> {
    let source = Source::start(1)?;
    let wrong = format!("sha256:{}", "0".repeat(64));
    let mut get = source.get(0, &["--digest", &wrong])?;
    let status = get.process.wait_exit(DEADLINE)?;
    assert!(
        status.code().is_some_and(|code| code != 0 && code != 101),
        "{status}"
    );
    assert!(!get.is_complete());
    Ok(())
}

#[test]
fn the_file_appears_only_when_it_is_whole() -> Result<()> {
    let source = Source::start(1)?;
    source.nodes[0].shape(LinkRate::megabits(100))?;
    let mut get = source.get(0, &["--seed-for", "60s"])?;
    wait_complete(&mut get)?;
    assert!(
        fs::read(get.file())? == source.expected()?,
        "the file differs"
    );
    assert!(get.process.is_running(), "it is to seed for a minute");
    Ok(())
}

#[test]
fn a_get_that_is_killed_leaves_no_file_behind_and_the_next_one_completes() -> Result<()> {
    let source = Source::start(1)?;
    source.nodes[0].shape(LinkRate::megabits(50))?;
    let before = source.nodes[0].interface_bytes()?.received;
    let mut get = source.get(0, &[])?;
    wait_until("half the file is here", DEADLINE, || {
        let received = source.nodes[0].interface_bytes()?.received - before;
        Ok((received > SIZE / 2).then_some(()))
    })?;
    get.process.kill()?;
    assert!(!get.is_complete());

    let mut again = source.get(0, &[])?;
    assert!(
        again.process.wait_exit(DEADLINE)?.success(),
        "{}",
        again.process.errors()
    );
    assert!(
        fs::read(again.file())? == source.expected()?,
        "the file differs"
    );
    Ok(())
}

#[test]
fn twenty_nodes_take_one_copy_from_the_source() -> Result<()> {
    let source = Source::start(20)?;
    let gets = (0..20).map(|node| source.get(node, &["--seed-for", "120s"]));
    let mut gets = gets.collect::<Result<Vec<_>>>()?;
    for get in &mut gets {
        wait_complete(get)?;
    }
    let expected = source.expected()?;
    for get in &gets {
        assert!(
            fs::read(get.file())? == expected,
            "{} differs",
            get.file().display()
        );
    }
    drop(gets);
    let transfers = source.origin.traffic()?;
    assert_eq!(transfers.transfers, 1, "{transfers:?}");
    assert!(transfers.bytes <= SIZE + 40, "{transfers:?}");
    Ok(())
}

#[test]
fn a_later_get_takes_the_file_from_the_swarm() -> Result<()> {
    let source = Source::start(2)?;
    let mut first = source.get(0, &["--seed-for", "120s"])?;
    wait_complete(&mut first)?;
    let mut second = source.get(1, &[])?;
    assert!(
        second.process.wait_exit(DEADLINE)?.success(),
        "{}",
        second.process.errors()
    );
    assert!(
        fs::read(second.file())? == source.expected()?,
        "the file differs"
    );
    drop(first);
    assert_eq!(source.origin.traffic()?.transfers, 1);
    Ok(())
}

#[test]
fn twenty_on_a_node_with_a_proxy_are_one_download() -> Result<()> {
    let source = Source::start(1)?;
    let node = &source.nodes[0];
    let options = ProxyOptions::with_supernodes(&[source.supernode.url()]);
    let mut proxy = NodeProxy::start(&source.flotilla, node, &options)?;
    let before = node.interface_bytes()?.received;
    let mut gets = Vec::new();
    for number in 0..20 {
        let mut get = source.flotilla.service(node);
        get.args(["get", &source.origin.url(FILE), "-o"]);
        let file = node.directory().join(format!("got{number}"));
        get.arg(&file).arg("--daemon");
        get.arg(node.directory().join("node/control.sock"));
        let name = format!("get{number}");
        gets.push((Process::start(&name, node.directory(), get)?, file));
    }
    let expected = source.expected()?;
    for (get, file) in &mut gets {
        let status = get.wait_exit(DEADLINE)?;
        assert!(status.success(), "{}", get.errors());
        assert!(fs::read(&file)? == expected, "{} differs", file.display());
    }
    let received = node.interface_bytes()?.received - before;
    assert!(
        received < SIZE * 3 / 2,
        "the node received {received} bytes"
    );
    assert!(proxy.process.is_running());
    let transfers = source.origin.traffic()?;
    assert_eq!(transfers.transfers, 1, "{transfers:?}");
    assert!(transfers.bytes <= SIZE + 40, "{transfers:?}");
    Ok(())
}
