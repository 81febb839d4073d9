//! What is no image: charts, signatures, WebAssembly, bills of materials. Opaque to the proxy.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use flotilla_testbed::{Host, random_file};
use flotilla_tests::{Cluster, ClusterPlan};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Large enough for a swarm.
const CONTENT: u64 = 1_500_000;

/// Tag, type and text of the configuration, types of the layers.
const ARTIFACTS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "chart-1.0.0",
        "application/vnd.cncf.helm.config.v1+json",
        r#"{"name":"app","version":"1.0.0","apiVersion":"v2"}"#,
        &[
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "application/vnd.cncf.helm.chart.provenance.v1.prov",
        ],
    ),
    (
        "sha256-0a0a.sig",
        "application/vnd.oci.image.config.v1+json",
        r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#,
        &["application/vnd.dev.cosign.simplesigning.v1+json"],
    ),
    (
        "module",
        "application/vnd.wasm.config.v0+json",
        r#"{"architecture":"wasm","os":"wasip1"}"#,
        &["application/wasm"],
    ),
    (
        "bill",
        "application/vnd.oci.empty.v1+json",
        "{}",
        &["text/spdx+json", "application/vnd.example.Odd+x; v=\"1\""],
    ),
];

/// An OCI layout of the artifacts; each after the first names the first as its subject.
struct Layout {
    directory: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        let mut layout = Self {
            directory,
            manifests: Vec::new(),
        };
        for (tag, config_type, config, layer_types) in ARTIFACTS {
            let config = layout.blob(config_type, config.as_bytes())?;
            let layers: Result<Vec<Value>> = layer_types
                .iter()
                .map(|layer_type| layout.random_blob(layer_type))
                .collect();
            let mut manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "artifactType": "application/vnd.example.artifact",
                "config": config, "layers": layers?,
            });
            if let Some(subject) = layout.manifests.first() {
                manifest["subject"] = subject.clone();
            }
            let manifest = layout.blob(MANIFEST, manifest.to_string().as_bytes())?;
            layout.manifests.push(manifest.clone());
            let mut named = manifest;
            named["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
            let index = layout.directory.join("index.json");
            let mut entries =
                read_json(&index).unwrap_or(json!({"schemaVersion": 2, "manifests": []}));
            entries["manifests"]
                .as_array_mut()
                .context("manifests")?
                .push(named);
            fs::write(index, entries.to_string())?;
        }
        Ok(layout)
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let hex = HEXLOWER.encode(&Sha256::digest(bytes));
        fs::write(self.directory.join("blobs/sha256").join(&hex), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
    }

    fn random_blob(&self, media_type: &str) -> Result<Value> {
        let file = self.directory.join("random");
        random_file(&file, CONTENT)?;
        self.blob(media_type, &fs::read(file)?)
    }
}

fn read_json(file: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// `skopeo copy` on a node, through its proxy.
fn copy(node: &Host, arguments: &[&str]) -> Result<()> {
    let mut command = node.command("skopeo");
    command
        .env("HTTP_PROXY", "http://127.0.0.1:65001")
        .env("HTTPS_PROXY", "http://127.0.0.1:65001")
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(arguments);
    let output = command.output().context("skopeo")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[test]
fn artifacts_of_all_types_are_pushed_and_pulled_byte_for_byte() -> Result<()> {
    let cluster = Cluster::start(ClusterPlan {
        nodes: 2,
        ..ClusterPlan::default()
    })?;
    let layout = Layout::new(cluster.testbed.directory().join("artifacts"))?;
    let login = cluster.registry.login();
    let credentials = format!("{}:{}", login.user, login.password);
    for ((tag, ..), manifest) in ARTIFACTS.iter().zip(&layout.manifests) {
        let source = format!("oci:{}:{tag}", layout.directory.display());
        let there = format!(
            "docker://{}/demo/artifacts:{tag}",
            cluster.registry.address()
        );
        let push = ["--dest-tls-verify=false", "--dest-creds", &credentials];
        copy(&cluster.nodes[0], &[&push[..], &[&source, &there]].concat())
            .with_context(|| format!("pushing {tag}"))?;
        let pulled = cluster.testbed.directory().join(format!("pulled-{tag}"));
        let target = format!("dir:{}", pulled.display());
        let anonymous = ["--src-tls-verify=false", "--src-no-creds", &there, &target];
        assert!(
            copy(&cluster.nodes[1], &anonymous).is_err(),
            "{tag} is private"
        );
        let pull = ["--src-tls-verify=false", "--src-creds", &credentials];
        copy(&cluster.nodes[1], &[&pull[..], &[&there, &target]].concat())
            .with_context(|| format!("pulling {tag}"))?;

        let bytes = fs::read(pulled.join("manifest.json"))?;
        let digest = HEXLOWER.encode(&Sha256::digest(&bytes));
        assert_eq!(manifest["digest"], format!("sha256:{digest}"), "{tag}");
        let described: Value = serde_json::from_slice(&bytes)?;
        let layers = described["layers"].as_array().context("layers")?;
        for blob in layers.iter().chain([&described["config"]]) {
            let hex = blob["digest"].as_str().unwrap().replace("sha256:", "");
            let original = fs::read(layout.directory.join("blobs/sha256").join(&hex))?;
            assert!(fs::read(pulled.join(&hex))? == original, "{tag} {hex}");
        }
        let layer = layers[0]["digest"].as_str().unwrap().replace(':', "-");
        let kept = cluster.nodes[1].directory().join("node/layers");
        let names: Vec<_> = fs::read_dir(&kept)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        let hex = layer.replace("sha256-", "");
        assert!(
            names.iter().any(|name| name.contains(&hex)),
            "{tag} has come through the swarm: {names:?}"
        );
    }
    Ok(())
}
