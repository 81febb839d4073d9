//! Pushes of one client: straight, through the proxy, and through a proxy that keeps the layers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use flotilla_testbed::{
    Flotilla, Host, Image, ImageBuilder, Lifetime, NodeProxy, ProxyOptions, Registry, Supernode,
    Table, Testbed,
};

use crate::statistics::{all, median};

const MEBIBYTE: u64 = 1 << 20;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Size of the image's one layer in MiB.
    #[arg(long, default_value_t = 300)]
    size: u64,
    /// How often each way is measured, in turns; the medians are compared.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// A way to push.
struct Way {
    name: &'static str,
    node: Host,
    proxy: Option<NodeProxy>,
    times: Vec<Duration>,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "--rounds 0: at least one is needed");
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let registry = Registry::start(&testbed.host("registry")?)?;
    let supernode = Supernode::start(&flotilla, &testbed.host("supernode")?)?;
    let mut ways = Vec::new();
    for (host, name, options) in [
        ("direct", "registry", None),
        ("passing", "through the proxy", Some([].as_slice())),
        (
            "keeping",
            "with --seed-pushed",
            Some(["--seed-pushed"].as_slice()),
        ),
    ] {
        let node = testbed.host(host)?;
        let proxy = options.map(|arguments| {
            let mut options = ProxyOptions::with_supernodes(&[supernode.url()]);
            options.arguments = arguments.iter().map(|&argument| argument.into()).collect();
            NodeProxy::start(&flotilla, &node, &options)
        });
        ways.push(Way {
            name,
            node,
            proxy: proxy.transpose()?,
            times: Vec::new(),
        });
    }
    let mut builder = ImageBuilder::new(&testbed.directory().join("image"))?;
    for round in 0..arguments.rounds {
        for way in &mut ways {
            // A layer that the registry has is not sent again.
            let image = builder.image_of(&[arguments.size * MEBIBYTE])?;
            let took = push(&image, &registry, way, &round.to_string())?;
            way.times.push(took);
        }
    }
    let title = format!("push of one layer of {} MiB", arguments.size);
    let mut table = Table::new(&[title.as_str(), "median s", "ratio", "all"]);
    let direct = ways.first().map_or(0.0, |way| median(&way.times));
    for way in &ways {
        let seconds = median(&way.times);
        table.row(&[
            way.name.to_owned(),
            format!("{seconds:.2}"),
            format!("{:.3}", seconds / direct),
            all(&way.times),
        ]);
    }
    print!("{table}");
    Ok(())
}

fn push(image: &Image, registry: &Registry, way: &Way, tag: &str) -> Result<Duration> {
    let reference = format!("{}/demo/push:{tag}", registry.address());
    let mut command = image.push_command(registry, &way.node, &reference);
    if way.proxy.is_some() {
        command.env("HTTP_PROXY", "http://127.0.0.1:65001");
    }
    let started = Instant::now();
    let output = command.output()?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "skopeo: {said}");
    Ok(took)
}
