//! Counts of swarms, without taking part (BEP 48).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use super::query::{self, QueryError};
use crate::InfoHash;
use crate::bencode::{self, BencodeError, DictWriter};

/// Most swarms of one scrape: as many as a UDP scrape has (BEP 15).
const MAX_SWARMS: usize = 74;
/// Longest scrape query that is read: 74 info hashes of 60 encoded bytes and their names.
const MAX_QUERY_BYTES: usize = 8 * 1024;
/// Longest scrape reply that is read.
const MAX_BYTES: usize = 64 * 1024;

/// A query that is no scrape; the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeRequestError {
    /// The query string is malformed or too long.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// An info hash of another length than 20 bytes.
    #[error("scrape with malformed info_hash")]
    InfoHash,
    /// More swarms than the cap.
    #[error("scrape of more than {MAX_SWARMS} swarms")]
    TooMany,
}

/// A scrape reply that cannot be read; the tracker's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeResponseError {
    /// Not strict bencode of the expected shape.
    #[error("scrape reply: {0}")]
    Bencode(#[from] BencodeError),
    /// A key of `files` is no info hash.
    #[error("scrape reply with a key of {0} bytes in files")]
    InfoHash(usize),
}

/// The query of `GET /scrape`: the swarms asked for. None: whatever the tracker likes to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeRequest(pub Vec<InfoHash>);

impl ScrapeRequest {
    /// Reads a query string, the part after `?`, of at most 74 info hashes.
    ///
    /// # Errors
    /// Malformed, or more than that.
    pub fn from_query(query: &str) -> Result<Self, ScrapeRequestError> {
        let parameters = query::parse(query, MAX_QUERY_BYTES)?;
        let values = parameters
            .iter()
            .filter(|parameter| parameter.name == b"info_hash");
        let hashes = values.map(|parameter| InfoHash::try_from(parameter.value.as_slice()));
        let hashes = hashes.collect::<Result<Vec<_>, _>>();
        let hashes = hashes.map_err(|_| ScrapeRequestError::InfoHash)?;
        if hashes.len() > MAX_SWARMS {
            Err(ScrapeRequestError::TooMany)
        } else {
            Ok(Self(hashes))
        }
    }

    /// The query string, without `?`.
    pub fn to_query(&self) -> String {
        let mut query = String::new();
        for info_hash in &self.0 {
            query::append(&mut query, "info_hash", info_hash.as_bytes());
        }
        query
    }
}

/// The counts of one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Seeders.
    pub complete: u32,
    /// Peers that ever announced `completed`.
    pub downloaded: u32,
    /// Leechers.
    pub incomplete: u32,
}

/// The reply to a scrape: the swarms that the tracker knows, in the order of their info hashes on
/// the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeResponse(pub Vec<ScrapeEntry>);

impl ScrapeResponse {
    /// The bencoded reply.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut files = DictWriter::default();
        for entry in &self.0 {
            let mut counts = DictWriter::default();
            counts
                .integer("complete", entry.complete)
                .integer("downloaded", entry.downloaded)
                .integer("incomplete", entry.incomplete);
            files.raw(entry.info_hash.as_bytes(), counts.finish());
        }
        let mut dict = DictWriter::default();
        dict.raw(b"files", files.finish());
        dict.finish()
    }

    /// Reads a bencoded reply of at most 64 KiB.
    ///
    /// # Errors
    /// Not such a reply.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScrapeResponseError> {
        let (wire, _): (Wire, _) = bencode::decode(bytes, MAX_BYTES)?;
        let entries = wire.files.into_iter().map(|(key, counts)| {
            let info_hash = InfoHash::try_from(key.as_slice())
                .map_err(|_| ScrapeResponseError::InfoHash(key.len()))?;
            let WireCounts {
                complete,
                downloaded,
                incomplete,
            } = counts;
            Ok(ScrapeEntry {
                info_hash,
                complete,
                downloaded,
                incomplete,
            })
        });
        entries.collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Deserialize)]
struct Wire {
    files: BTreeMap<ByteBuf, WireCounts>,
}

#[derive(Deserialize)]
struct WireCounts {
    complete: u32,
    #[serde(default)]
    downloaded: u32,
    incomplete: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of BEP 48.
    #[test]
    fn the_bytes_are_those_of_bep_48() {
        let response = ScrapeResponse(vec![ScrapeEntry {
            info_hash: InfoHash::from_bytes([b'.'; 20]),
            complete: 5,
            downloaded: 50,
            incomplete: 10,
        }]);
        let expected = b"d5:filesd20:....................\
            d8:completei5e10:downloadedi50e10:incompletei10eeee";
        assert_eq!(response.to_bytes(), expected);
        assert_eq!(ScrapeResponse::from_bytes(expected), Ok(response));
    }

    #[test]
    fn info_hashes_of_another_length_and_too_many_are_refused() {
        let refused = |query: &str| ScrapeRequest::from_query(query).unwrap_err();
        assert_eq!(refused("info_hash=abc"), ScrapeRequestError::InfoHash);
        let many = ScrapeRequest(vec![InfoHash::from_bytes([b'a'; 20]); MAX_SWARMS + 1]);
        assert_eq!(refused(&many.to_query()), ScrapeRequestError::TooMany);
        let reply = b"d5:filesd1:ad8:completei0e10:incompletei0eeee";
        assert_eq!(
            ScrapeResponse::from_bytes(reply),
            Err(ScrapeResponseError::InfoHash(1))
        );
    }

    proptest! {
        #[test]
        fn requests_round_trip(hashes in prop::collection::vec(any::<[u8; 20]>(), 0..=MAX_SWARMS)) {
            let request = ScrapeRequest(hashes.into_iter().map(InfoHash::from_bytes).collect());
            prop_assert_eq!(ScrapeRequest::from_query(&request.to_query()), Ok(request));
        }

        #[test]
        fn responses_round_trip(entries: BTreeMap<[u8; 20], (u32, u32, u32)>) {
            let entry = |(key, (complete, downloaded, incomplete))| ScrapeEntry {
                info_hash: InfoHash::from_bytes(key), complete, downloaded, incomplete
            };
            let response = ScrapeResponse(entries.into_iter().map(entry).collect());
            prop_assert_eq!(ScrapeResponse::from_bytes(&response.to_bytes()), Ok(response));
        }

        #[test]
        fn any_input_is_read_or_refused(bytes: Vec<u8>, query: String) {
            let _ = ScrapeResponse::from_bytes(&bytes);
            let _ = ScrapeRequest::from_query(&query);
            let _ = ScrapeRequest::from_query(&format!("info_hash={query}"));
        }
    }
}
