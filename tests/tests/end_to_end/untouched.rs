//! What flotilla has no part in works through its proxy as without it.

use anyhow::Result;
use flotilla_testbed::{
    DockerEngine, EngineOptions, Flotilla, ImageBuilder, Lifetime, NginxOrigin, NodeProxy,
    ProxyOptions, Registry, RegistryKind, Supernode, Testbed, random_file,
};

/// The proxy intercepts nothing: the engine sees the registry's own certificate.
#[test]
fn a_registry_that_is_not_listed_and_a_host_that_is_none_work_untouched() -> Result<()> {
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let registry_host = testbed.host("registry")?;
    let supernode_host = testbed.host("supernode")?;
    let node = testbed.host("node")?;
    let registry = Registry::start_as(RegistryKind::HttpsBearer, &registry_host)?;
    let packages = NginxOrigin::start(&registry_host)?;
    let supernode = Supernode::start(&flotilla, &supernode_host)?;
    let options = ProxyOptions::with_supernodes(&[supernode.url()]);
    let _proxy = NodeProxy::start(&flotilla, &node, &options)?;
    let mut images = ImageBuilder::new(&testbed.directory().join("image"))?;
    let layers = vec![images.random_layer(3 << 20)?, images.random_layer(1 << 10)?];
    let image = images.image(&layers)?;
    let reference = image.push(&registry, "demo/app", "1")?;
    let options = EngineOptions {
        http_proxy: Some("http://127.0.0.1:65001".to_owned()),
        ca: registry.ca(),
        ..EngineOptions::default()
    };
    let mut engine = DockerEngine::start(&node, "docker", &options)?;
    engine.wait_ready()?;
    engine.login(&registry.address(), registry.login())?;

    engine.pull(&reference)?;
    assert_eq!(engine.image_id(&reference)?, image.id);
    engine.push(&reference)?;

    random_file(&packages.files().join("a.deb"), 2 << 20)?;
    let target = node.directory().join("a.deb");
    let mut curl = node.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--proxy"]);
    curl.args(["http://127.0.0.1:65001", &packages.url("a.deb"), "-o"]);
    assert!(curl.arg(&target).status()?.success());
    let sent = std::fs::read(packages.files().join("a.deb"))?;
    assert!(std::fs::read(&target)? == sent);
    let kept = std::fs::read_dir(node.directory().join("node/layers"))?.count();
    assert_eq!(kept, 0, "the swarm has no part in it");
    Ok(())
}
