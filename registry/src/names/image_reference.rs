//! Images as people name them: `registry.example:5000/team/app:1.0`.

use std::str::FromStr;

use flotilla_torrents::Digest;
use url::Host;

use crate::names::docker_hub;
use crate::names::reference::{Reference, Tag};
use crate::names::repository::Repository;

/// Where an image without a host is (distribution, "reference").
const DEFAULT_HOST: &str = docker_hub::NAME;
/// What an image there without a user belongs to.
const DEFAULT_USER: &str = "library";
/// Bytes of host and repository together (distribution, "reference").
const MAX_NAME_LENGTH: usize = 255;

/// An image that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("image {0:?} is not [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]")]
pub struct ImageReferenceError(String);

/// Which manifest of which repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// As it was written.
    pub written: String,
    /// The registry, without its port.
    pub host: String,
    /// Its port, where one is written.
    pub port: Option<u16>,
    /// The repository in it.
    pub repository: Repository,
    /// Tag or digest.
    pub reference: Reference,
    /// None: it is named by digest only.
    tag: Option<Tag>,
}

impl ImageReference {
    /// `registry/repository:tag`, whatever of it was left out; none without a tag.
    pub fn tagged(&self) -> Option<String> {
        let (registry, repository) = (self.registry(), &self.repository);
        let tag = self.tag.as_ref()?;
        Some(format!("{registry}/{repository}:{tag}"))
    }

    /// Its registry as people name it.
    pub fn registry(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ImageReferenceError(text.chars().take(MAX_NAME_LENGTH).collect()))
    }
}

fn parse(text: &str) -> Option<ImageReference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().ok()?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse::<Tag>().ok()?)),
        _ => (rest, None),
    };
    if name.len() > MAX_NAME_LENGTH {
        return None;
    }
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DEFAULT_HOST, name),
    };
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (host, None),
    };
    Host::parse(host).ok()?;
    let repository = if host == DEFAULT_HOST && !path.contains('/') {
        format!("{DEFAULT_USER}/{path}").parse()
    } else {
        path.parse()
    };
    // A digest says more than the tag beside it.
    let tag = tag.or_else(|| digest.is_none().then(Tag::latest));
    let reference = digest.map(Reference::Digest);
    let reference = reference.or_else(|| tag.clone().map(Reference::Tag))?;
    Some(ImageReference {
        written: text.to_owned(),
        host: host.to_owned(),
        port,
        repository: repository.ok()?,
        reference,
        tag,
    })
}

/// Whether the first part of a name is a host, and not a user of Docker Hub.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_docker() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, host, port, repository, reference) in [
            (
                "reg.test:5000/team/app:1.0",
                "reg.test",
                Some(5000),
                "team/app",
                "1.0",
            ),
            ("reg.test/app", "reg.test", None, "app", "latest"),
            ("localhost/a/b", "localhost", None, "a/b", "latest"),
            ("[::1]:5000/a:b", "[::1]", Some(5000), "a", "b"),
            ("nginx", "docker.io", None, "library/nginx", "latest"),
            ("team/app:2", "docker.io", None, "team/app", "2"),
            (
                "docker.io/nginx",
                "docker.io",
                None,
                "library/nginx",
                "latest",
            ),
            (
                &format!("reg.test/a:1@{digest}"),
                "reg.test",
                None,
                "a",
                &digest,
            ),
        ] {
            let image: ImageReference = text.parse().unwrap();
            assert_eq!(image.host, host, "{text}");
            assert_eq!(image.port, port, "{text}");
            assert_eq!(image.repository.as_str(), repository, "{text}");
            assert_eq!(image.reference.to_string(), reference, "{text}");
        }
    }

    #[test]
    fn an_image_is_called_by_its_tag_if_it_has_one() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, tagged) in [
            ("reg.test:5000/a:1", Some("reg.test:5000/a:1")),
            ("nginx", Some("docker.io/library/nginx:latest")),
            (&format!("reg.test/a:1@{digest}"), Some("reg.test/a:1")),
            (&format!("reg.test/a@{digest}"), None),
        ] {
            let image: ImageReference = text.parse().unwrap();
            assert_eq!(image.tagged().as_deref(), tagged);
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_image() {
        for text in [
            "",
            "/",
            "reg.test/",
            "reg.test//a",
            "reg.test/../a",
            "reg.test/a/..",
            "reg.test/A",
            "reg.test/a b",
            "reg.test/a___b",
            "reg.test/a._b",
            "reg.test/a?x",
            "reg.test/a%2f",
            "reg.test/a:..",
            "reg.test/a:1/../x",
            "reg.test/a@sha256:00",
            "reg.test:x/a",
            "u@reg.test/a",
            "http://reg.test/a",
            &format!("reg.test/{}", "a".repeat(300)),
            &format!("reg.test/a:{}", "a".repeat(200)),
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }
}
