//! Who may not have a layer from the registry does not get it from the swarm.

use anyhow::{Context, Result};
use flotilla_testbed::{DockerEngine, EngineOptions, Host};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::{LAYERS, probes};

const PROXY: &str = "http://127.0.0.1:65001";

/// Status line, challenge and body of a response: what tells a client why it was refused.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    challenge: Vec<String>,
    body: String,
}

fn ask(host: &Host, url: &str, arguments: &[&str]) -> Result<Answer> {
    let mut curl = host.command("curl");
    curl.args(["--silent", "--show-error", "--include", url])
        .args(arguments);
    let output = curl.output().context("cannot run curl")?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("no end of head")?;
    let mut lines = head.lines();
    let status = lines.next().context("no status line")?;
    let challenge = lines.filter(|line| line.to_ascii_lowercase().starts_with("www-authenticate:"));
    Ok(Answer {
        status: status.split(' ').nth(1).unwrap_or_default().to_owned(),
        challenge: challenge
            .map(|line| line.trim().to_ascii_lowercase())
            .collect(),
        body: body.to_owned(),
    })
}

fn refusal(engine: &DockerEngine, reference: &str) -> Result<String> {
    let output = engine.try_pull(reference)?;
    assert!(!output.status.success(), "the pull was not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_pull_without_login_is_refused_as_the_registry_refuses_it() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 2,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let registry = cluster.registry.address();
    let direct = cluster.start_engines("direct", &EngineOptions::direct(&cluster.registry))?;
    direct[0].logout(&registry)?;
    let refused_by_registry = refusal(&direct[0], &reference)?;

    cluster.engines[0].logout(&registry)?;
    assert_eq!(
        refusal(&cluster.engines[0], &reference)?,
        refused_by_registry
    );

    // Now the layers are on this node, and its peer has them too.
    cluster.engines[0].login(&registry, cluster.registry.login())?;
    flotilla_testbed::pull_all(&cluster.engines, &reference)?;
    cluster.engines[0].remove_image(&reference)?;
    cluster.engines[0].logout(&registry)?;
    assert_eq!(
        refusal(&cluster.engines[0], &reference)?,
        refused_by_registry
    );
    Ok(())
}

#[test]
fn a_layer_on_this_node_is_refused_in_the_registry_s_own_words() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 1,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    cluster.engines[0].pull(&reference)?;
    let node = &cluster.nodes[0];
    let address = cluster.registry.address();
    for layer in &image.layers {
        let url = format!("http://{address}/v2/demo/app/blobs/{}", layer.digest);
        for credentials in [&[][..], &["--user", "operator:wrong"][..]] {
            let direct = ask(node, &url, credentials)?;
            let proxied = ask(node, &url, &[&["--proxy", PROXY][..], credentials].concat())?;
            assert_eq!(direct.status, "401");
            assert_eq!(proxied, direct);
        }
    }
    Ok(())
}

#[test]
fn who_may_have_a_layer_gets_the_one_on_this_node_without_moving_it_again() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 1,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    cluster.engines[0].pull(&reference)?;
    cluster.engines[0].remove_image(&reference)?;
    let before = cluster.registry.traffic()?;

    cluster.engines[0].pull(&reference)?;

    let moved = cluster.registry.traffic()?.since(&before).bytes;
    assert!(moved <= probes(1, &image), "{moved} bytes moved again");
    Ok(())
}
