//! The commands of README.md do what it says, on machines of the testbed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_testbed::{
    DockerEngine, EngineOptions, Flotilla, Host, ImageBuilder, Lifetime, Process, Registry, Testbed,
};

use crate::LAYERS;

const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// README's supernode, and its image.
const SUPERNODE: &str = "10.0.0.1";
const REGISTRY: &str = "registry.example:5000";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shell commands of README's fenced blocks, comments left out, each on one line.
fn commands() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(repository().join("README.md"))?;
    let mut commands = Vec::new();
    for block in text.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut command = String::new();
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            let line = line.split("    #").next().unwrap_or_default().trim();
            let continued = line.strip_suffix('\\');
            command.push_str(continued.unwrap_or(line).trim_end());
            command.push(' ');
            if continued.is_none() && !line.ends_with('|') {
                commands.push(std::mem::take(&mut command).trim().to_owned());
            }
        }
    }
    Ok(commands)
}

fn only_one<'a>(commands: &'a [String], part: &str) -> Result<&'a str> {
    let mut found = commands.iter().filter(|command| command.contains(part));
    let first = found
        .next()
        .with_context(|| format!("README has no {part}"))?;
    ensure!(found.next().is_none(), "README has {part} twice");
    Ok(first)
}

/// A command of README as a service of `host`, with a /var/lib of its own.
fn service(flotilla: &Flotilla, host: &Host, name: &str, command: &str) -> Result<Process> {
    let binary = flotilla.binary().display().to_string();
    let command = command.replacen("flotilla ", &format!("{binary} "), 1);
    let script = format!("mount -t tmpfs tmpfs /var/lib && exec env {command}");
    let mut service = host.service("unshare");
    service.args(["--mount", "sh", "-c", &script]);
    let mut process = Process::start(name, host.directory(), service)?;
    process.wait_ready(READY_TIMEOUT, |process| {
        process.output().lines().any(|line| line.contains("ready"))
    })?;
    Ok(process)
}

#[test]
fn five_commands_lead_to_an_accelerated_pull() -> Result<()> {
    let commands = commands()?;
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let registry_host = testbed.host("registry")?;
    let supernode_host = testbed.host("supernode")?;
    let node = testbed.host("node")?;
    let registry = Registry::start(&registry_host)?;
    let mut images = ImageBuilder::new(&testbed.directory().join("image"))?;
    let image = images.image_of(&LAYERS)?;
    image.push(&registry, "team/app", "1.0")?;
    let here = |command: &str| {
        let command = command.trim_start_matches("sudo ");
        command.replace(SUPERNODE, &supernode_host.address().to_string())
    };

    let command = here(only_one(&commands, "flotilla supernode")?);
    let supernode = service(&flotilla, &supernode_host, "supernode", &command)?;
    let printed = format!("{}{}", supernode.output(), supernode.errors());
    let token = printed
        .split_whitespace()
        .find_map(|word| word.strip_prefix("FLOTILLA_JOIN_TOKEN="))
        .context("the supernode prints no join token")?;

    let command = here(only_one(&commands, "flotilla proxy")?)
        .replace("TOKEN=TOKEN", &format!("TOKEN={token}"));
    let _proxy = service(&flotilla, &node, "proxy", &command)?;

    let drop_in = only_one(&commands, "docker.service.d")?;
    let (written, restarted) = drop_in
        .split_once(" && sudo systemctl")
        .context("Docker is not restarted")?;
    ensure!(
        restarted.contains("restart docker"),
        "Docker is not restarted"
    );
    let systemd = node.directory().join("systemd");
    let written = written
        .replace("sudo ", "")
        .replace("/etc/systemd/system", &systemd.display().to_string());
    ensure!(
        Command::new("sh")
            .args(["-c", &written])
            .status()?
            .success()
    );
    let unit = std::fs::read_to_string(systemd.join("docker.service.d/flotilla.conf"))?;
    let proxy = unit
        .lines()
        .find_map(|line| line.strip_prefix("Environment=HTTP_PROXY="))
        .context("the drop-in names no proxy")?;

    let options = EngineOptions {
        http_proxy: Some(proxy.to_owned()),
        ..EngineOptions::direct(&registry)
    };
    let mut engine = DockerEngine::start(&node, "docker", &options)?;
    engine.wait_ready()?;
    engine.login(&registry.address(), registry.login())?;
    let reference = only_one(&commands, "docker pull")?
        .trim_start_matches("docker pull ")
        .replace(REGISTRY, &registry.address());
    engine.pull(&reference)?;

    assert_eq!(engine.image_id(&reference)?, image.id);
    let by_client = registry.traffic()?.bytes_by_client;
    let sent_to = |host: &Host| {
        by_client
            .get(&IpAddr::V4(host.address()))
            .copied()
            .unwrap_or(0)
    };
    assert_eq!(sent_to(&node), 0, "{by_client:?}");
    assert!(
        sent_to(&supernode_host) >= image.blob_bytes,
        "{by_client:?}"
    );
    Ok(())
}

/// The demo takes minutes and the tests are what runs this, so these are only asked for.
#[test]
fn the_targets_of_make_that_it_names_exist() -> Result<()> {
    let mut named = 0;
    for command in commands()? {
        let Some(target) = command.strip_prefix("make ") else {
            continue;
        };
        let target = target.split_whitespace().next().unwrap_or_default();
        let mut make = Command::new("make");
        make.current_dir(repository())
            .args(["--question", "--dry-run", target]);
        // 1: the target would be made; 2: there is no such target.
        let code = make.output()?.status.code();
        assert!(matches!(code, Some(0 | 1)), "make {target}: {code:?}");
        named += 1;
    }
    assert!(named >= 3, "demo, test and build");
    Ok(())
}
