//! Many small images, one after the other, by one client: what the proxy adds to each request.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use flotilla_bench::{
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
    let (mut direct, mut swarm) = (Duration::ZERO, Duration::ZERO);
    // CPU seconds, the registry's apart for each way.
    let mut registry_cpu = [0.0, 0.0];
    let before = supernode.process.cpu_seconds()? + proxy.process.cpu_seconds()?;
    for number in 0..arguments.images {
        let layers: Result<Vec<_>> = LAYERS
            .iter()
            .map(|size| builder.random_layer(size * KIBIBYTE))
            .collect();
        let image = builder.image(&layers?)?;
        let reference = image.push(&registry, "demo/small", &number.to_string())?;
        let target = directory.join("pulled");
        // Whoever comes second finds the registry's files in memory: they take turns.
        for proxied in [number % 2 == 0, number % 2 == 1] {
            let cpu = registry.cpu_seconds()?;
            let took = pull(&node, &registry, &reference, &target, proxied)?;
            registry_cpu[usize::from(proxied)] += registry.cpu_seconds()? - cpu;
            if proxied {
                swarm += took;
            } else {
                direct += took;
            }
        }
    }
    let title = format!(
        "{} images of {} small layers",
        arguments.images,
        LAYERS.len()
    );
    let own_cpu = supernode.process.cpu_seconds()? + proxy.process.cpu_seconds()? - before;
    let mut table = Table::new(&[title.as_str(), "ms an image"]);
    let images = u32::try_from(arguments.images)?;
    let each = |all: Duration| format!("{:.1}", (all / images).as_secs_f64() * 1000.0);
    table.row(&["registry".to_owned(), each(direct)]);
    table.row(&["through proxy and supernode".to_owned(), each(swarm)]);
    let ratio = swarm.as_secs_f64() / direct.as_secs_f64();
    table.row(&["ratio".to_owned(), format!("{ratio:.3}")]);
    let cpu = |seconds: f64| format!("{:.1}", seconds * 1000.0 / f64::from(images));
    for (name, seconds) in [
        ("CPU of proxy and supernode", own_cpu),
        ("CPU of the registry, direct", registry_cpu[0]),
        ("CPU of the registry, through", registry_cpu[1]),
    ] {
        table.row(&[name.to_owned(), cpu(seconds)]);
    }
    print!("{table}");
    Ok(())
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
