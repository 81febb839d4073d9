//! Magnet links (BEP 9), with web seeds (`ws`) of BEP 19.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use librqbit_core::Id20;
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::InfoHash;

/// Longest magnet link that is read.
const MAX_BYTES: usize = 8 * 1024;
/// Most trackers that are kept.
const MAX_TRACKERS: usize = 64;
/// Most web seeds that are kept.
const MAX_WEB_SEEDS: usize = 64;
/// Most peers that are kept; further ones are passed over.
const MAX_PEERS: usize = 64;

/// Text that is no magnet link of a v1 torrent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// Longer than any sensible link.
    #[error("magnet link of {0} bytes, expected at most {MAX_BYTES}")]
    TooLong(usize),
    /// Not a URI of the scheme `magnet`.
    #[error("not a magnet link, expected magnet:?xt=urn:btih:<info hash>")]
    NotMagnet,
    /// No v1 info hash, or a malformed one.
    #[error("magnet link without xt=urn:btih: and 40 hexadecimal or 32 base32 digits")]
    InfoHash,
    /// More trackers than the cap.
    #[error("magnet link with more than {MAX_TRACKERS} trackers")]
    Trackers,
    /// More web seeds than the cap.
    #[error("magnet link with more than {MAX_WEB_SEEDS} web seeds")]
    WebSeeds,
}

/// A magnet link of a v1 torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    info_hash: InfoHash,
    name: Option<String>,
    trackers: Vec<String>,
    web_seeds: Vec<String>,
    peers: Vec<SocketAddr>,
}

impl Magnet {
    /// A link to a torrent, with the name to show and the trackers to ask.
    pub fn new(info_hash: InfoHash, name: Option<String>, trackers: Vec<String>) -> Self {
        Self {
            info_hash,
            name,
            trackers,
            web_seeds: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// The same link with these web seeds.
    #[must_use]
    pub fn with_web_seeds(mut self, web_seeds: Vec<String>) -> Self {
        self.web_seeds = web_seeds;
        self
    }

    /// The same link with these peers.
    #[must_use]
    pub fn with_peers(mut self, peers: Vec<SocketAddr>) -> Self {
        self.peers = peers;
        self
    }

    /// The torrent's info hash.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The name to show until the metainfo is here.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The trackers.
    pub fn trackers(&self) -> &[String] {
        &self.trackers
    }

    /// The web seeds.
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// The peers to connect to (`x.pe`); those given by name instead of address are left out.
    pub fn peers(&self) -> &[SocketAddr] {
        &self.peers
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_BYTES {
            return Err(MagnetError::TooLong(text.len()));
        }
        let url = Url::parse(text).map_err(|_| MagnetError::NotMagnet)?;
        if url.scheme() != "magnet" {
            return Err(MagnetError::NotMagnet);
        }
        let values = |wanted: &'static str| {
            let pairs = url.query_pairs();
            pairs.filter_map(move |(key, value)| (key == wanted).then_some(value))
        };
        // Other `xt` name the same torrent for others: BEP 52 its v2, other networks theirs.
        let mut hashes =
            values("xt").filter_map(|topic| topic.strip_prefix("urn:btih:").map(info_hash_from));
        let info_hash = hashes.next().ok_or(MagnetError::InfoHash)??;
        if hashes.next().is_some() {
            // Two torrents in one link are not one torrent.
            return Err(MagnetError::InfoHash);
        }
        let owned = |key| values(key).map(Cow::into_owned);
        let trackers: Vec<String> = owned("tr").take(MAX_TRACKERS + 1).collect();
        if trackers.len() > MAX_TRACKERS {
            return Err(MagnetError::Trackers);
        }
        let web_seeds: Vec<String> = owned("ws").take(MAX_WEB_SEEDS + 1).collect();
        if web_seeds.len() > MAX_WEB_SEEDS {
            return Err(MagnetError::WebSeeds);
        }
        let peers = values("x.pe").filter_map(|peer| peer.parse().ok());
        Ok(Self {
            info_hash,
            name: owned("dn").filter(|name| !name.is_empty()).last(),
            trackers,
            web_seeds,
            peers: peers.take(MAX_PEERS).collect(),
        })
    }
}

/// Reads 40 hexadecimal or 32 base32 digits. The form is checked before: librqbit-core 9.1.0 panics
/// on base32 whose padding makes it another length than a hash has.
fn info_hash_from(text: &str) -> Result<InfoHash, MagnetError> {
    let is_base32 = |byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    if text.len() == 32 && !text.bytes().all(is_base32) {
        return Err(MagnetError::InfoHash);
    }
    let id: Id20 = text.parse().map_err(|_| MagnetError::InfoHash)?;
    Ok(InfoHash::from_bytes(id.0))
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        let name = self.name.iter().map(|name| ("dn", name));
        let trackers = self.trackers.iter().map(|tracker| ("tr", tracker));
        let web_seeds = self.web_seeds.iter().map(|url| ("ws", url));
        for (key, value) in name.chain(trackers).chain(web_seeds) {
            write!(f, "&{key}=")?;
            byte_serialize(value.as_bytes()).try_for_each(|part| f.write_str(part))?;
        }
        self.peers
            .iter()
            .try_for_each(|peer| write!(f, "&x.pe={peer}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "123456789abcdef123456789abcdef123456789a";
    /// python3: `base64.b32encode(bytes.fromhex(HEX))`.
    const BASE32: &str = "CI2FM6E2XTPPCI2FM6E2XTPPCI2FM6E2";

    fn refused(text: &str) -> MagnetError {
        text.parse::<Magnet>().unwrap_err()
    }

    #[test]
    fn a_link_is_read_in_hexadecimal_and_base32() {
        let hex = format!("magnet:?xt=urn:btih:{HEX}&dn=a+b&tr=http%3A%2F%2Ft.test%2Fa&tr=udp://u");
        let read: Magnet = hex.parse().unwrap();
        assert_eq!(read.info_hash().to_string(), HEX);
        assert_eq!(read.name(), Some("a b"));
        assert_eq!(read.trackers(), ["http://t.test/a", "udp://u"]);
        let base32: Magnet = format!("magnet:?xt=urn:btih:{BASE32}").parse().unwrap();
        assert_eq!(base32.info_hash(), read.info_hash());
    }

    /// Each of these makes a parser of librqbit-core 9.1.0 panic or allocate without bound.
    #[test]
    fn what_breaks_the_librarys_parsers_is_kept_from_them() {
        let padded = format!("{}====", "A".repeat(28));
        assert_eq!(
            refused(&format!("magnet:?xt=urn:btih:{padded}")),
            MagnetError::InfoHash
        );
        let v2 = "A".repeat(56);
        let v2 = format!("magnet:?xt=urn:btih:{HEX}&xt=urn:btmh:1220{v2}");
        assert_eq!(v2.parse::<Magnet>().unwrap().info_hash().to_string(), HEX);
        let select = format!("magnet:?xt=urn:btih:{HEX}&so=0-18446744073709551615");
        assert!(select.parse::<Magnet>().is_ok());
    }

    #[test]
    fn what_is_no_link_to_one_v1_torrent_is_refused() {
        assert_eq!(refused(HEX), MagnetError::NotMagnet);
        assert_eq!(
            refused("https://example.org/?xt=urn:btih:"),
            MagnetError::NotMagnet
        );
        assert_eq!(refused("magnet:?dn=a"), MagnetError::InfoHash);
        assert_eq!(refused("magnet:?xt=urn:btih:abc"), MagnetError::InfoHash);
        let two = format!(
            "magnet:?xt=urn:btih:{HEX}&xt=urn:btih:{}",
            HEX.replace('1', "2")
        );
        assert_eq!(refused(&two), MagnetError::InfoHash);
        let many = format!(
            "magnet:?xt=urn:btih:{HEX}{}",
            "&tr=a".repeat(MAX_TRACKERS + 1)
        );
        assert_eq!(refused(&many), MagnetError::Trackers);
        let many = format!(
            "magnet:?xt=urn:btih:{HEX}{}",
            "&ws=a".repeat(MAX_WEB_SEEDS + 1)
        );
        assert_eq!(refused(&many), MagnetError::WebSeeds);
        assert!(matches!(
            refused(&"a".repeat(MAX_BYTES + 1)),
            MagnetError::TooLong(_)
        ));
    }

    proptest! {
        #[test]
        fn round_trip(
            info_hash: [u8; 20],
            name in prop::option::of("\\PC{1,20}"),
            trackers in prop::collection::vec("\\PC{0,20}", 0..4),
            web_seeds in prop::collection::vec("\\PC{0,20}", 0..4),
            peers in prop::collection::vec(any::<(std::net::IpAddr, u16)>(), 0..4),
        ) {
            let magnet = Magnet::new(InfoHash::from_bytes(info_hash), name, trackers)
                .with_web_seeds(web_seeds)
                .with_peers(peers.into_iter().map(SocketAddr::from).collect());
            prop_assert_eq!(magnet.to_string().parse(), Ok(magnet));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String, likely in "[A-Za-z0-9=&:%.-]{0,80}") {
            let _ = text.parse::<Magnet>();
            let _ = format!("magnet:?{text}").parse::<Magnet>();
            for start in ["xt=urn:btih:", "xt=urn:btmh:1220", ""] {
                let _ = format!("magnet:?{start}{likely}").parse::<Magnet>();
            }
        }
    }
}
