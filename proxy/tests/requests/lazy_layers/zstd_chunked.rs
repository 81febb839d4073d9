//! zstd:chunked, as skopeo writes it: a zstd frame for each part of a file, the table of contents
//! and the footer in skippable frames (containers/storage, pkg/chunked/internal).

use std::io::Write as _;
use std::process::{Command, Stdio};

use flotilla_torrents::DigestHasher;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{LazyFormat, Part, Reader};

const FOOTER: usize = 40;
const MAGIC: &[u8] = b"GnUlInUx";

pub(super) struct ZstdChunked;

impl LazyFormat for ZstdChunked {
    fn layer(&self, files: &[Vec<u8>]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
        std::fs::create_dir(&plain).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (number, file) in files.iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_size(file.len() as u64);
            header.set_mode(0o644);
            let name = format!("opt/file-{number}");
            archive
                .append_data(&mut header, name, file.as_slice())
                .unwrap();
        }
        let blob = |bytes: &[u8]| {
            let digest = DigestHasher::sha256_of(bytes).to_string();
            std::fs::write(plain.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
            digest
        };
        let archive = archive.into_inner().unwrap();
        let layer = blob(&archive);
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]}});
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": archive.len()}],
        });
        std::fs::write(plain.join("manifest.json"), manifest.to_string()).unwrap();
        std::fs::write(plain.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-compress"])
            .args(["--dest-compress-format", "zstd:chunked"])
            .arg(format!("dir:{}", plain.display()))
            .arg(format!("dir:{}", packed.display()))
            .output()
            .expect("skopeo (package skopeo)");
        assert!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        let manifest = std::fs::read(packed.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let digest = manifest["layers"][0]["digest"].as_str().unwrap();
        std::fs::read(packed.join(digest.strip_prefix("sha256:").unwrap())).unwrap()
    }

    fn contents<'a>(&'a self, reader: &'a Reader<'_>) -> BoxFuture<'a, Vec<Part>> {
        async move {
            let length = reader.layer.len();
            let footer = reader.range(length - FOOTER..length).await;
            let numbers: Vec<usize> = footer
                .chunks_exact(8)
                .take(2)
                .map(|bytes| {
                    usize::try_from(u64::from_le_bytes(bytes.try_into().unwrap())).unwrap()
                })
                .collect();
            assert!(footer.ends_with(MAGIC));
            let contents = reader.range(numbers[0]..numbers[0] + numbers[1]).await;
            parts(&self.decompressed(&contents))
        }
        .boxed()
    }

    fn decompressed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut zstd = Command::new("zstd")
            .args(["--decompress", "--stdout", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("zstd (package zstd)");
        let mut input = zstd.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(bytes).unwrap());
            zstd.wait_with_output().unwrap()
        });
        assert!(output.status.success());
        output.stdout
    }
}

/// A file of several parts has an entry of its own for each but the first.
fn parts(contents: &[u8]) -> Vec<Part> {
    let contents: Value = serde_json::from_slice(contents).unwrap();
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut file = (0, 0);
    for entry in contents["entries"].as_array().unwrap() {
        let Some(start) = number(&entry["offset"]) else {
            continue;
        };
        if entry["type"] == "reg" {
            file = (
                number(&entry["endOffset"]).unwrap(),
                number(&entry["size"]).unwrap(),
            );
        } else if let Some(before) = parts.last_mut() {
            before.range.end = start;
        }
        let (end, size) = file;
        parts.push(Part {
            range: start..end,
            // The only part of a file has no size of its own.
            size: number(&entry["chunkSize"]).unwrap_or(size),
            digest: ["chunkDigest", "digest"]
                .iter()
                .find_map(|name| entry[name].as_str())
                .unwrap()
                .to_owned(),
        });
    }
    parts
}
