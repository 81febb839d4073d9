//! Many small images, one after the other, by one client: what the proxy adds to each request.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use flotilla_testbed::{
    Flotilla, Host, ImageBuilder, Lifetime, NodeProxy, ProxyOptions, Registry, Supernode, Table,
    Testbed,
};

/// Compressed bytes of an image's layers, in KiB.
const LAYERS: [u64; 10] = [1, 2, 4, 8, 16, 24, 32, 48, 64, 100];
const KIBIBYTE: u64 = 1 << 10;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many images.
    #[arg(long, default_value_t = 1000)]
    images: usize,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.images > 0, "--images 0: at least one is needed");
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let registry_host = testbed.host("registry")?;
    let supernode_host = testbed.host("supernode")?;
    let node = testbed.host("node")?;
    let registry = Registry::start(&registry_host)?;
    let supernode = Supernode::start(&flotilla, &supernode_host)?;
    let options = ProxyOptions::with_supernodes(&[supernode.url()]);
    let proxy = NodeProxy::start(&flotilla, &node, &options)?;
    let directory = testbed.directory().join("image");
    let mut builder = ImageBuilder::new(&directory)?;
    let (mut direct, mut swarm) = (Spent::default(), Spent::default());
    let before = supernode.process.cpu_seconds()? + proxy.process.cpu_seconds()?;
    for number in 0..arguments.images {
        let layers: Result<Vec<_>> = LAYERS
            .iter()
            .map(|size| builder.random_layer(size * KIBIBYTE))
            .collect();
        let image = builder.image(&layers?)?;
        let reference = image.push(&registry, "demo/small", &number.to_string())?;
        let target = directory.join("pulled");
        // The second run finds the registry's files in memory: they take turns.
        for proxied in [number % 2 == 0, number % 2 == 1] {
            let spent = if proxied { &mut swarm } else { &mut direct };
            let cpu = registry.cpu_seconds()?;
            spent.time += pull(&node, &registry, &reference, &target, proxied)?;
            spent.registry_cpu += registry.cpu_seconds()? - cpu;
        }
    }
    let title = format!(
        "{} images of {} small layers",
        arguments.images,
        LAYERS.len()
    );
    let own_cpu = supernode.process.cpu_seconds()? + proxy.process.cpu_seconds()? - before;
    let title = title.as_str();
    let mut table = Table::new(&[title, "ms an image", "CPU of the registry"]);
    let images = u32::try_from(arguments.images)?;
    let each = |seconds: f64| format!("{:.1}", seconds * 1000.0 / f64::from(images));
    let row = |spent: &Spent| (each(spent.time.as_secs_f64()), each(spent.registry_cpu));
    for (name, (time, cpu)) in [
        ("registry", row(&direct)),
        ("through proxy and supernode", row(&swarm)),
        ("CPU of proxy and supernode", (each(own_cpu), String::new())),
    ] {
        table.row(&[name.to_owned(), time, cpu]);
    }
    let ratio = swarm.time.as_secs_f64() / direct.time.as_secs_f64();
    table.row(&["ratio".to_owned(), format!("{ratio:.3}"), String::new()]);
    print!("{table}");
    Ok(())
}

/// What all pulls of a way have taken.
#[derive(Default)]
struct Spent {
    time: Duration,
    /// Seconds.
    registry_cpu: f64,
}

/// skopeo pulls without unpacking: the network's part of a pull.
fn pull(
    node: &Host,
    registry: &Registry,
    reference: &str,
    target: &Path,
    proxied: bool,
) -> Result<Duration> {
    let login = registry.login();
    let mut command = node.command("skopeo");
    command.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
    ]);
    command.arg(format!("--src-creds={}:{}", login.user, login.password));
    command.arg(format!("docker://{reference}"));
    command.arg(format!("dir:{}", target.display()));
    if proxied {
        command.env("HTTP_PROXY", "http://127.0.0.1:65001");
    }
    let started = Instant::now();
    let output = command.output()?;
    let took = started.elapsed();
    ensure!(
        output.status.success(),
        "skopeo: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_dir_all(target)?;
    Ok(took)
}
