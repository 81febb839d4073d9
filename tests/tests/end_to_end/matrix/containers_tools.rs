//! podman, buildah and skopeo: one library, three programs.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use flotilla_testbed::{Host, Registry};
use serde_json::{Value, json};

/// The program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Podman,
    Buildah,
    Skopeo,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Podman => "podman",
            Self::Buildah => "buildah",
            Self::Skopeo => "skopeo",
        })
    }
}

/// How it reaches the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// `HTTP_PROXY` and `HTTPS_PROXY`.
    Proxy,
    /// A mirror in `registries.conf`.
    Mirror,
}

impl Way {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxy => "proxy",
            Self::Mirror => "mirror",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Proxy => "HTTP proxy",
            Self::Mirror => "mirror",
        })
    }
}

/// A program with configuration and storage of its own.
pub(super) struct Setup {
    host: Host,
    tool: Tool,
    way: Way,
    ca: Option<PathBuf>,
    is_plain: bool,
    directory: PathBuf,
}

impl Setup {
    pub(super) fn new(
        host: &Host,
        registry: &Registry,
        tool: Tool,
        way: Way,
        ca: Option<PathBuf>,
        directory: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let address = registry.address();
        let is_plain = registry.ca().is_none();
        let mirror = format!("127.0.0.1:65001/{}", address.replace(':', "__"));
        let mut registries =
            format!("[[registry]]\nlocation = \"{address}\"\ninsecure = {is_plain}\n");
        if way == Way::Mirror {
            registries +=
                &format!("[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n");
        }
        fs::write(directory.join("registries.conf"), registries)?;
        let policy = json!({"default": [{"type": "insecureAcceptAnything"}]});
        fs::write(directory.join("policy.json"), policy.to_string())?;
        fs::write(directory.join("containers.conf"), "")?;
        // Credentials for the mirror alone: past it the pull would be refused.
        let known = if way == Way::Mirror { mirror } else { address };
        let login = registry.login();
        let pair = BASE64.encode(format!("{}:{}", login.user, login.password).as_bytes());
        let auths = json!({"auths": {known: {"auth": pair}}});
        fs::write(directory.join("auth.json"), auths.to_string())?;
        fs::write(directory.join("no-login.json"), "{\"auths\": {}}")?;
        Ok(Self {
            host: host.clone(),
            tool,
            way,
            ca,
            is_plain,
            directory: directory.to_owned(),
        })
    }

    fn command(&self, is_logged_in: bool) -> Command {
        let mut command = self.host.command(self.tool.to_string());
        let auth = if is_logged_in {
            "auth.json"
        } else {
            "no-login.json"
        };
        command
            .env("REGISTRY_AUTH_FILE", self.directory.join(auth))
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.directory.join("registries.conf"),
            )
            .env("CONTAINERS_CONF", self.directory.join("containers.conf"))
            .env("HOME", &self.directory)
            .env("XDG_RUNTIME_DIR", &self.directory)
            .env("TMPDIR", &self.directory);
        if let Some(ca) = &self.ca {
            command.env("SSL_CERT_FILE", ca);
        }
        if self.way == Way::Proxy {
            for variable in ["HTTP_PROXY", "HTTPS_PROXY"] {
                command.env(variable, super::PROXY);
            }
        }
        match self.tool {
            Tool::Skopeo => {
                command
                    .arg("--policy")
                    .arg(self.directory.join("policy.json"))
                    .arg("--registries-conf")
                    .arg(self.directory.join("registries.conf"));
            }
            Tool::Podman | Tool::Buildah => {
                command
                    .arg("--root")
                    .arg(self.directory.join("root"))
                    .arg("--runroot")
                    .arg(self.directory.join("run"))
                    .args(["--storage-driver", "vfs"]);
            }
        }
        if self.tool == Tool::Podman {
            command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        }
        command
    }

    /// Pulls, and returns the image's id: the digest of its configuration.
    pub(super) fn pull(&self, reference: &str, is_logged_in: bool) -> Result<String> {
        match self.tool {
            Tool::Skopeo => {
                let target = self.directory.join("pulled");
                let mut digests = self.copy_out(reference, &target, is_logged_in)?;
                fs::remove_dir_all(&target)?;
                Ok(digests.swap_remove(0))
            }
            Tool::Podman | Tool::Buildah => {
                let mut pull = self.command(is_logged_in);
                pull.args(["pull", "--quiet", "--signature-policy"]);
                pull.arg(self.directory.join("policy.json")).arg(reference);
                output_of(&mut pull)?;
                let mut inspect = self.command(is_logged_in);
                match self.tool {
                    Tool::Podman => inspect.args(["image", "inspect", "--format", "{{.Id}}"]),
                    _ => {
                        inspect.args(["inspect", "--type", "image", "--format", "{{.FromImageID}}"])
                    }
                };
                let id = output_of(inspect.arg(reference))?;
                Ok(format!(
                    "sha256:{}",
                    id.trim().trim_start_matches("sha256:")
                ))
            }
        }
    }

    /// Copies an image into a directory; the digests of its configuration and layers. skopeo
    /// compares each blob with its digest.
    pub(super) fn copy_out(
        &self,
        reference: &str,
        target: &Path,
        is_logged_in: bool,
    ) -> Result<Vec<String>> {
        let mut copy = self.command(is_logged_in);
        copy.args(["copy", "--quiet"]);
        if self.is_plain {
            copy.arg("--src-tls-verify=false");
        }
        copy.arg(format!("docker://{reference}"));
        copy.arg(format!("dir:{}", target.display()));
        output_of(&mut copy)?;
        let manifest: Value = serde_json::from_str(&super::text_of(&target.join("manifest.json")))
            .context("the manifest")?;
        let layers = manifest["layers"].as_array().context("layers")?;
        let described = std::iter::once(&manifest["config"]).chain(layers);
        let digests = described.map(|blob| blob["digest"].as_str().map(str::to_owned));
        digests.collect::<Option<_>>().context("digests")
    }

    /// Pushes what was pulled under another name.
    pub(super) fn push(&self, pulled: &str, reference: &str) -> Result<()> {
        let mut command = self.command(true);
        match self.tool {
            Tool::Skopeo => {
                command.args(["copy", "--quiet"]);
                if self.is_plain {
                    command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
                }
                command.arg(format!("docker://{pulled}"));
            }
            Tool::Podman | Tool::Buildah => {
                command.args(["push", "--quiet", "--signature-policy"]);
                command.arg(self.directory.join("policy.json"));
                if self.is_plain {
                    command.arg("--tls-verify=false");
                }
                command.arg(pulled);
            }
        }
        output_of(command.arg(format!("docker://{reference}"))).map(drop)
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
