//! Multi-layer images made of the machine's own files, as an OCI image layout.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::network::host::Host;
use crate::network::namespace::{output_of, run};
use crate::registries::registry::Registry;

/// Files below this would make an engine's pull a test of its file system.
const MIN_FILE: u64 = 16 << 10;
/// Files above this would make layers overshoot their size.
const MAX_FILE_BYTES: u64 = 32 << 20;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYOUT_TAG: &str = "latest";

/// One compressed layer on disk.
#[derive(Clone, Debug)]
pub struct Layer {
    file: PathBuf,
    /// Digest of the compressed bytes, as registries name it.
    pub digest: String,
    /// Compressed size in bytes.
    pub size: u64,
    diff_id: String,
}

/// An image on disk.
#[derive(Clone, Debug)]
pub struct Image {
    layout: PathBuf,
    /// Bytes that a first pull moves: the configuration and all layers.
    pub blob_bytes: u64,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The digest of its configuration, which engines call the image's id.
    pub id: String,
}

/// Makes layers and images; the same machine yields the same digests.
#[derive(Debug)]
pub struct ImageBuilder {
    directory: PathBuf,
    files: Vec<PathBuf>,
    next_file: usize,
    next_layer: usize,
    next_image: usize,
}

impl ImageBuilder {
    /// A builder that writes below `directory`.
    ///
    /// # Errors
    /// The machine's files cannot be listed.
    pub fn new(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let sysroot = run("rustc", &["--print", "sysroot"]).unwrap_or_default();
        let toolchain = Path::new(sysroot.trim()).join("lib");
        for root in [
            toolchain.as_path(),
            Path::new("/usr/lib"),
            Path::new("/usr/share"),
        ] {
            if root.is_absolute() && root.is_dir() {
                list_files(root, &mut files)?;
            }
        }
        if files.is_empty() {
            bail!("no files found below /usr/lib and /usr/share");
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            files,
            next_file: 0,
            next_layer: 1,
            next_image: 1,
        })
    }

    /// A layer of at least `size` compressed bytes, from files that no other layer has (until the
    /// machine runs out of them).
    ///
    /// # Errors
    /// The disk is full.
    pub fn layer(&mut self, size: u64) -> Result<Layer> {
        let files = std::mem::take(&mut self.files);
        let mut next_file = self.next_file;
        let written = self.write_layer(|archive, number| {
            let mut entry_number = 0_usize;
            while archive.get_ref().inner.get_ref().written < size {
                let Some(path) = files.get(next_file % files.len()) else {
                    break;
                };
                next_file += 1;
                // Vanished or not a file any more: the machine is in use.
                let Ok(content) = fs::read(path) else {
                    continue;
                };
                let name = format!("opt/demo/layer-{number}/{entry_number:06}");
                append(archive, &name, &content)?;
                entry_number += 1;
            }
            Ok(())
        });
        (self.files, self.next_file) = (files, next_file);
        written
    }

    fn write_layer(
        &mut self,
        fill: impl FnOnce(&mut LayerArchive, usize) -> Result<()>,
    ) -> Result<Layer> {
        let number = self.next_layer;
        self.next_layer += 1;
        let file = self.directory.join(format!("layer-{number}.tar.gz"));
        let sink =
            File::create(&file).with_context(|| format!("cannot create {}", file.display()))?;
        // gzip's fastest level: the engines, not the builder, are to have the work.
        let gzip = GzEncoder::new(Hashing::new(BufWriter::new(sink)), Compression::fast());
        let mut archive = tar::Builder::new(Hashing::new(gzip));
        fill(&mut archive, number)?;
        let (gzip, diff_id, _) = archive.into_inner()?.finish();
        let (mut sink, digest, size) = gzip.finish()?.finish();
        sink.flush()?;
        Ok(Layer {
            file,
            digest,
            size,
            diff_id,
        })
    }

    /// A layer of about `size` compressed bytes, also where that is smaller than any file.
    ///
    /// # Errors
    /// The disk is full.
    pub fn random_layer(&mut self, size: u64) -> Result<Layer> {
        let mut content = vec![0; usize::try_from(size)?];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut content))
            .context("/dev/urandom")?;
        self.write_layer(|archive, number| {
            append(archive, &format!("opt/demo/random-{number}"), &content)
        })
    }

    /// An image of new layers with these compressed sizes, the lowest first.
    ///
    /// # Errors
    /// The disk is full.
    pub fn image_of(&mut self, sizes: &[u64]) -> Result<Image> {
        let layers: Result<Vec<Layer>> = sizes.iter().map(|size| self.layer(*size)).collect();
        self.image(&layers?)
    }

    /// An image of `layers`, the lowest first.
    ///
    /// # Errors
    /// The layout cannot be written.
    pub fn image(&mut self, layers: &[Layer]) -> Result<Image> {
        let layout = self.directory.join(format!("image-{}", self.next_image));
        self.next_image += 1;
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot create {}", blobs.display()))?;
        for layer in layers {
            fs::hard_link(&layer.file, blobs.join(hex_of(&layer.digest)))
                .context("cannot link a layer")?;
        }
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = write_blob(&blobs, &config)?;
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}))
            .collect();
        #[rustfmt::skip]
        let manifest = write_blob(&blobs, &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.size},
            "layers": described,
        }))?;
        #[rustfmt::skip]
        let entry = json!({
            "mediaType": MANIFEST_TYPE,
            "digest": manifest.digest,
            "size": manifest.size,
            "annotations": {"org.opencontainers.image.ref.name": LAYOUT_TAG},
        });
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(Image {
            layout,
            blob_bytes: config.size + layers.iter().map(|layer| layer.size).sum::<u64>(),
            layers: layers.to_vec(),
            id: config.digest,
        })
    }
}

impl Image {
    /// Pushes the image into `registry` from the registry's own host, past every shaped link, and
    /// returns its full reference.
    ///
    /// # Errors
    /// `skopeo` is missing or refused.
    pub fn push(&self, registry: &Registry, repository: &str, tag: &str) -> Result<String> {
        let reference = format!("{}/{repository}:{tag}", registry.address());
        output_of(&mut self.push_command(registry, registry.host(), &reference))?;
        Ok(reference)
    }

    /// The command that pushes the image from `host` as `reference`.
    pub fn push_command(&self, registry: &Registry, host: &Host, reference: &str) -> Command {
        let login = registry.login();
        let mut command = host.command("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
        ]);
        command.arg(format!("--dest-creds={}:{}", login.user, login.password));
        if let Some(ca) = registry.ca() {
            command.env("SSL_CERT_FILE", ca);
        }
        command
            .arg(self.source())
            .arg(format!("docker://{reference}"));
        command
    }

    /// Writes the image as an archive that `docker load` takes, named `reference`.
    ///
    /// # Errors
    /// `skopeo` is missing or the disk is full.
    pub fn archive(&self, reference: &str) -> Result<PathBuf> {
        let file = self.layout.with_extension("tar");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet"]);
        command.arg(self.source());
        command.arg(format!("docker-archive:{}:{reference}", file.display()));
        output_of(&mut command)?;
        Ok(file)
    }

    fn source(&self) -> String {
        format!("oci:{}:{LAYOUT_TAG}", self.layout.display())
    }
}

/// The layer being written: its digest is that of the gzip stream, its diff id of the tar.
type LayerArchive = tar::Builder<Hashing<GzEncoder<Hashing<BufWriter<File>>>>>;

fn append(archive: &mut LayerArchive, name: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len())?);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)?;
    Ok(())
}

struct Blob {
    digest: String,
    size: u64,
}

fn write_blob(blobs: &Path, content: &Value) -> Result<Blob> {
    let text = content.to_string();
    let hex = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
    let size = u64::try_from(text.len())?;
    fs::write(blobs.join(&hex), text).context("cannot write a blob")?;
    Ok(Blob {
        digest: format!("sha256:{hex}"),
        size,
    })
}

/// Files of a tree in a fixed order, symbolic links not followed.
fn list_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list_files(&entry.path(), files)?;
        } else if metadata.is_file() && (MIN_FILE..=MAX_FILE_BYTES).contains(&metadata.len()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn hex_of(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// The name that Go, and so every image, has for this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Counts and hashes what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            written: 0,
        }
    }

    /// What is below, the digest, and the length.
    fn finish(self) -> (W, String, u64) {
        let hex = HEXLOWER.encode(&self.hash.finalize());
        (self.inner, format!("sha256:{hex}"), self.written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        if let Some(taken) = bytes.get(..count) {
            self.hash.update(taken);
            self.written += u64::try_from(count).map_err(io::Error::other)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Fills `file` with random bytes: nothing on the way can compress them.
///
/// # Errors
/// The disk is full.
pub fn random_file(file: &Path, size: u64) -> Result<()> {
    let source = File::open("/dev/urandom").context("/dev/urandom")?;
    let mut sink =
        File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    io::copy(&mut source.take(size), &mut sink).context("cannot fill the file")?;
    Ok(())
}
