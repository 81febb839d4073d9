//! What images consist of: manifests and indexes (OCI image-spec, Docker image manifest version 2
//! schema 1 and 2).

use std::fmt;
use std::str::FromStr;

use flotilla_torrents::Digest;
use serde::Deserialize;

/// A platform that an image is for: `OS/ARCHITECTURE[/VARIANT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// None means any.
    variant: Option<String>,
}

/// A platform is not understood.
#[derive(Debug, thiserror::Error)]
#[error("platform {0:?} is not OS/ARCHITECTURE[/VARIANT], such as linux/amd64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/').map(str::to_owned);
        let parsed = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) => Some(Self {
                os,
                architecture,
                variant,
            }),
            _ => None,
        };
        let is_word = |part: &str| {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.len() <= 32 && part.bytes().all(is_usual)
        };
        parsed
            .filter(|_| text.split('/').all(is_word))
            .ok_or_else(|| PlatformError(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

/// What a manifest leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// One image: its configuration and layers.
    Image(Vec<Blob>),
    /// Several, usually for several platforms.
    Index(Vec<Child>),
}

/// A layer or configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// Whether it is elsewhere (OCI image-spec, descriptor, `urls`).
    pub(crate) is_foreign: bool,
}

/// A manifest in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) digest: Digest,
    /// As the index says; artifacts have none.
    pub(crate) platform: Option<Platform>,
}

impl Child {
    /// Whether it is wanted by those who want `platforms`, or all if these are none.
    pub(crate) fn is_for(&self, platforms: &[Platform]) -> bool {
        let Some(own) = &self.platform else {
            return true;
        };
        let is_own = |wanted: &Platform| {
            wanted.os == own.os
                && wanted.architecture == own.architecture
                && wanted
                    .variant
                    .as_ref()
                    .is_none_or(|variant| own.variant.as_ref().is_some_and(|own| own == variant))
        };
        platforms.is_empty() || platforms.iter().any(is_own)
    }
}

/// A manifest is not understood.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the manifest is malformed: {0}")]
pub(crate) struct ManifestError(String);

#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    schema1_layers: Option<Vec<Schema1Layer>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: Option<u64>,
    urls: Option<Vec<String>>,
    platform: Option<PlatformField>,
}

#[derive(Deserialize)]
struct PlatformField {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Schema1Layer {
    #[serde(rename = "blobSum")]
    digest: Digest,
}

impl Manifest {
    /// # Errors
    /// The document is neither manifest nor index.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, ManifestError> {
        let document: Document =
            serde_json::from_slice(document).map_err(|error| ManifestError(error.to_string()))?;
        if let Some(children) = document.manifests {
            return Ok(Self::Index(children.into_iter().map(child).collect()));
        }
        let described = document
            .config
            .into_iter()
            .chain(document.layers.into_iter().flatten());
        // An empty blob has nothing to be fetched.
        let described = described
            .filter(|descriptor| descriptor.size != Some(0))
            .map(|descriptor| Blob {
                is_foreign: descriptor.urls.is_some_and(|urls| !urls.is_empty()),
                digest: descriptor.digest,
            });
        let old = document.schema1_layers.into_iter().flatten();
        let old = old.map(|layer| Blob {
            digest: layer.digest,
            is_foreign: false,
        });
        let blobs: Vec<Blob> = described.chain(old).collect();
        if blobs.is_empty() {
            return Err(ManifestError(
                "it has neither layers nor manifests".to_owned(),
            ));
        }
        Ok(Self::Image(blobs))
    }
}

fn child(descriptor: Descriptor) -> Child {
    let platform = descriptor.platform.and_then(|field| {
        Some(Platform {
            os: field.os?,
            architecture: field.architecture?,
            variant: field.variant,
        })
    });
    Child {
        digest: descriptor.digest,
        platform,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(byte: u8) -> Digest {
        format!("sha256:{}", format!("{byte:02x}").repeat(32))
            .parse()
            .unwrap()
    }

    #[test]
    fn an_image_is_its_configuration_and_layers() {
        let manifest = json!({"schemaVersion": 2,
        "config": {"digest": digest(1), "size": 5, "mediaType": "x"},
        "layers": [
            {"digest": digest(2), "size": 9},
            {"digest": digest(3), "size": 9, "urls": ["https://elsewhere.test/x"]},
            {"digest": digest(4), "size": 0},
            {"digest": digest(5), "size": 9, "urls": []},
        ]});
        let blob = |byte, is_foreign| Blob {
            digest: digest(byte),
            is_foreign,
        };
        assert_eq!(
            Manifest::parse(manifest.to_string().as_bytes()).unwrap(),
            Manifest::Image(vec![
                blob(1, false),
                blob(2, false),
                blob(3, true),
                blob(5, false)
            ])
        );
        let old = json!({"schemaVersion": 1, "fsLayers": [{"blobSum": digest(7)}]});
        assert_eq!(
            Manifest::parse(old.to_string().as_bytes()).unwrap(),
            Manifest::Image(vec![blob(7, false)])
        );
    }

    #[test]
    fn an_index_has_children_for_platforms() {
        let of = |byte, os: &str, architecture: &str, variant: Option<&str>| {
            json!({"digest": digest(byte), "size": 1,
                "platform": {"os": os, "architecture": architecture, "variant": variant}})
        };
        let index = json!({"manifests": [
            of(1, "linux", "amd64", None),
            of(2, "linux", "arm64", Some("v8")),
            of(3, "windows", "amd64", None),
            {"digest": digest(4), "size": 1},
        ]});
        let Manifest::Index(children) = Manifest::parse(index.to_string().as_bytes()).unwrap()
        else {
            panic!("no index");
        };
        let wanted = |platforms: &[&str]| -> Vec<Digest> {
            let platforms: Vec<Platform> = platforms.iter().map(|p| p.parse().unwrap()).collect();
            let wanted = children.iter().filter(|child| child.is_for(&platforms));
            wanted.map(|child| child.digest.clone()).collect()
        };
        assert_eq!(wanted(&[]).len(), 4);
        assert_eq!(wanted(&["linux/amd64"]), [digest(1), digest(4)]);
        assert_eq!(wanted(&["linux/arm64"]), [digest(2), digest(4)]);
        assert_eq!(wanted(&["linux/arm64/v7"]), [digest(4)]);
        assert_eq!(wanted(&["linux/amd64", "windows/amd64"]).len(), 3);
    }

    #[test]
    fn other_documents_are_refused() {
        for document in [
            "",
            "{}",
            "[]",
            r#"{"layers": []}"#,
            r#"{"config": {"digest": "sha256:zz"}}"#,
            r#"{"config": {"digest": "../../x"}}"#,
            r#"{"manifests": 5}"#,
        ] {
            assert!(Manifest::parse(document.as_bytes()).is_err(), "{document}");
        }
    }

    #[test]
    fn platforms_are_words() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/a b", "*/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        let arm: Platform = "linux/arm64/v8".parse().unwrap();
        assert_eq!(arm.to_string(), "linux/arm64/v8");
    }
}
