//! What a peer tells the tracker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::query::{self, Parameter, QueryError};
use crate::{InfoHash, PeerId};

/// Longest announce query that is read; one of ours with a ticket has about 600 bytes.
const MAX_BYTES: usize = 4096;
/// Longest `key` and longest `ticket`.
const MAX_TEXT_BYTES: usize = 1024;

/// A query that is no announce; the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceRequestError {
    /// The query string is malformed or too long.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A parameter that every announce has is missing.
    #[error("announce without {0}")]
    Missing(&'static str),
    /// A parameter is there twice.
    #[error("announce with {0} twice")]
    Twice(&'static str),
    /// A parameter's value is none.
    #[error("announce with malformed {0}")]
    Malformed(&'static str),
}

/// Why a peer announces out of turn (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// It joins.
    Started,
    /// It has everything, for the first time.
    Completed,
    /// It leaves.
    Stopped,
}

impl AnnounceEvent {
    /// The value of the parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// The query of `GET /announce` (BEP 3).
#[derive(Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The peer.
    pub peer_id: PeerId,
    /// Where it listens.
    pub port: u16,
    /// The address it listens on, when it is not the one it announces from.
    pub ip: Option<IpAddr>,
    /// Bytes sent to peers.
    pub uploaded: u64,
    /// Bytes received from peers.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Why it announces out of turn.
    pub event: Option<AnnounceEvent>,
    /// Peers it would like to hear of.
    pub numwant: Option<u32>,
    /// Whether it reads compact peer lists (BEP 23): all do that do not say `compact=0`.
    pub compact: bool,
    /// Whether it has no use for peer ids in a list that is not compact.
    pub no_peer_id: bool,
    /// Proves that it is the same peer at another address (BEP 7).
    pub key: Option<String>,
    /// A `SignedTicket` of the cluster in text form (our own parameter).
    pub ticket: Option<String>,
}

impl AnnounceRequest {
    /// Reads a query string of at most 4 KiB, the part after `?`. Unknown parameters are passed
    /// over; an event of another extension, a `numwant` that is no count (some clients say -1) and
    /// an `ip` that is a name are taken as not sent.
    ///
    /// # Errors
    /// A parameter is malformed or repeated, or one of `info_hash`, `peer_id`, `port`, `left` is
    /// missing.
    pub fn from_query(query: &str) -> Result<Self, AnnounceRequestError> {
        let parameters = Parameters(query::parse(query, MAX_BYTES)?);
        Ok(Self {
            info_hash: parameters.bytes("info_hash")?,
            peer_id: parameters.bytes("peer_id")?,
            port: parameters.required("port")?,
            ip: parameters.text("ip")?.and_then(|ip| ip.parse().ok()),
            uploaded: parameters.parsed("uploaded")?.unwrap_or(0),
            downloaded: parameters.parsed("downloaded")?.unwrap_or(0),
            left: match parameters.required::<i128>("left")? {
                // The length is not known yet, says a client with only a magnet link.
                unknown if unknown < 0 => u64::MAX,
                left => u64::try_from(left).map_err(|_| AnnounceRequestError::Malformed("left"))?,
            },
            event: match parameters.value("event")? {
                Some(b"started") => Some(AnnounceEvent::Started),
                Some(b"completed") => Some(AnnounceEvent::Completed),
                Some(b"stopped") => Some(AnnounceEvent::Stopped),
                _ => None,
            },
            numwant: parameters
                .parsed::<i64>("numwant")?
                .and_then(|n| u32::try_from(n).ok()),
            compact: parameters.value("compact")? != Some(b"0"),
            no_peer_id: parameters.value("no_peer_id")? == Some(b"1"),
            key: parameters.key()?,
            ticket: parameters.text("ticket")?,
        })
    }

    /// Whether the peer leaves.
    pub fn is_stopped(&self) -> bool {
        self.event == Some(AnnounceEvent::Stopped)
    }

    /// The query string, without `?`.
    pub fn to_query(&self) -> String {
        let mut query = String::new();
        let mut put = |name: &str, value: &[u8]| query::append(&mut query, name, value);
        put("info_hash", self.info_hash.as_bytes());
        put("peer_id", self.peer_id.as_bytes());
        put("port", self.port.to_string().as_bytes());
        put("uploaded", self.uploaded.to_string().as_bytes());
        put("downloaded", self.downloaded.to_string().as_bytes());
        put("left", self.left.to_string().as_bytes());
        put("compact", if self.compact { b"1" } else { b"0" });
        if self.no_peer_id {
            put("no_peer_id", b"1");
        }
        if let Some(ip) = self.ip {
            put("ip", ip.to_string().as_bytes());
        }
        if let Some(event) = self.event {
            put("event", event.as_str().as_bytes());
        }
        if let Some(numwant) = self.numwant {
            put("numwant", numwant.to_string().as_bytes());
        }
        if let Some(key) = &self.key {
            put("key", key.as_bytes());
        }
        if let Some(ticket) = &self.ticket {
            put("ticket", ticket.as_bytes());
        }
        query
    }
}

// The key and the ticket are secrets of the peer.
impl fmt::Debug for AnnounceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnounceRequest")
            .field("info_hash", &self.info_hash)
            .field("peer_id", &self.peer_id)
            .field("port", &self.port)
            .field("ip", &self.ip)
            .field("uploaded", &self.uploaded)
            .field("downloaded", &self.downloaded)
            .field("left", &self.left)
            .field("event", &self.event)
            .field("numwant", &self.numwant)
            .field("compact", &self.compact)
            .field("no_peer_id", &self.no_peer_id)
            .finish_non_exhaustive()
    }
}

struct Parameters(Vec<Parameter>);

impl Parameters {
    fn value(&self, name: &'static str) -> Result<Option<&[u8]>, AnnounceRequestError> {
        let mut values = self
            .0
            .iter()
            .filter(|parameter| parameter.name == name.as_bytes());
        let first = values.next().map(|parameter| parameter.value.as_slice());
        match values.next() {
            Some(_) => Err(AnnounceRequestError::Twice(name)),
            None => Ok(first),
        }
    }

    fn bytes<T: for<'a> TryFrom<&'a [u8]>>(
        &self,
        name: &'static str,
    ) -> Result<T, AnnounceRequestError> {
        let value = self
            .value(name)?
            .ok_or(AnnounceRequestError::Missing(name))?;
        T::try_from(value).map_err(|_| AnnounceRequestError::Malformed(name))
    }

    /// Any bytes: aria2 sends some that are no text.
    fn key(&self) -> Result<Option<String>, AnnounceRequestError> {
        match self.value("key")? {
            None | Some([]) => Ok(None),
            Some(key) if key.len() > MAX_TEXT_BYTES => Err(AnnounceRequestError::Malformed("key")),
            Some(key) => Ok(Some(String::from_utf8_lossy(key).into_owned())),
        }
    }

    /// An empty value counts as none.
    fn text(&self, name: &'static str) -> Result<Option<String>, AnnounceRequestError> {
        match self.value(name)? {
            None | Some([]) => Ok(None),
            Some(value) if value.len() > MAX_TEXT_BYTES => {
                Err(AnnounceRequestError::Malformed(name))
            }
            Some(value) => match String::from_utf8(value.to_vec()) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(AnnounceRequestError::Malformed(name)),
            },
        }
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, AnnounceRequestError> {
        let text = self.text(name)?.map(|text| text.parse());
        text.transpose()
            .map_err(|_| AnnounceRequestError::Malformed(name))
    }

    fn required<T: FromStr>(&self, name: &'static str) -> Result<T, AnnounceRequestError> {
        self.parsed(name)?
            .ok_or(AnnounceRequestError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STOCK: &str = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-TR3000-abcdefghijkl\
        &port=51413&uploaded=0&downloaded=0&left=1024&numwant=80&key=5f1a2b3c&compact=1\
        &supportcrypto=1&event=started";

    #[test]
    fn an_announce_as_transmission_sends_it_is_read() {
        let read = AnnounceRequest::from_query(STOCK).unwrap();
        assert_eq!(
            read.info_hash.to_string(),
            "123456789abcdef123456789abcdef123456789a"
        );
        assert_eq!(read.peer_id.as_bytes(), b"-TR3000-abcdefghijkl");
        assert_eq!(
            (read.port, read.left, read.numwant),
            (51413, 1024, Some(80))
        );
        assert_eq!(read.event, Some(AnnounceEvent::Started));
        assert_eq!(
            (read.ip, read.key.as_deref(), read.compact),
            (None, Some("5f1a2b3c"), true)
        );
    }

    #[test]
    fn what_is_missing_repeated_or_malformed_is_named() {
        use AnnounceRequestError as E;
        let refused = |query: String| AnnounceRequest::from_query(&query).unwrap_err();
        assert_eq!(refused(String::new()), E::Missing("info_hash"));
        assert_eq!(refused(STOCK.replace("port=51413", "")), E::Missing("port"));
        assert_eq!(refused(STOCK.replace("left=1024", "")), E::Missing("left"));
        assert_eq!(
            refused(STOCK.replace("port=51413", "port=65536")),
            E::Malformed("port")
        );
        assert_eq!(
            refused(STOCK.replace("ijkl", "ijk")),
            E::Malformed("peer_id")
        );
        assert_eq!(refused(format!("{STOCK}&left=1")), E::Twice("left"));
        assert!(matches!(
            refused("a".repeat(MAX_BYTES + 1)),
            E::Query(QueryError::TooLong { .. })
        ));
        assert_eq!(
            refused(format!("{STOCK}&ticket={}", "a".repeat(1025))),
            E::Malformed("ticket")
        );
    }

    #[test]
    fn oddities_of_clients_are_passed_over() {
        let odd = STOCK
            .replace("numwant=80", "numwant=-1")
            .replace("event=started", "event=paused&ip=localhost")
            .replace("left=1024", "left=-1");
        let read = AnnounceRequest::from_query(&odd).unwrap();
        assert_eq!((read.numwant, read.event, read.ip), (None, None, None));
        assert_eq!(read.left, u64::MAX);
        let empty = STOCK.replace("event=started", "event=&ip=");
        assert_eq!(AnnounceRequest::from_query(&empty).unwrap().event, None);
    }

    #[test]
    fn an_announce_as_aria2_sends_it_is_read() {
        let query = "info_hash=%2B%5E%D5%AD%08%7F3J%A1%C7%2C%D5_%A7l%E5%F2%0Cy%23\
            &peer_id=A2-1-36-0-Q%99%B3vl%E0j%FBo%3F&uploaded=0&downloaded=0&left=5007607&compact=1\
            &key=%B3vl%E0j%FBo%3F&numwant=50&no_peer_id=1&port=6995&event=started&supportcrypto=1";
        let read = AnnounceRequest::from_query(query).unwrap();
        assert_eq!(
            (read.port, read.left, read.no_peer_id),
            (6995, 5_007_607, true)
        );
        assert!(read.key.is_some());
    }

    #[test]
    fn lists_are_compact_unless_the_peer_says_otherwise() {
        let read = |query: &str| {
            let read = AnnounceRequest::from_query(query).unwrap();
            (read.compact, read.no_peer_id)
        };
        assert_eq!(read(STOCK), (true, false));
        assert_eq!(read(&STOCK.replace("&compact=1", "")), (true, false));
        let plain = STOCK.replace("compact=1", "compact=0");
        assert_eq!(read(&plain), (false, false));
        assert_eq!(read(&format!("{plain}&no_peer_id=1")), (false, true));
    }

    #[test]
    fn the_debug_form_hides_key_and_ticket() {
        let read = AnnounceRequest::from_query(&format!("{STOCK}&ticket=secret")).unwrap();
        let shown = format!("{read:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("5f1a2b3c"),
            "{shown}"
        );
    }

    fn requests() -> impl Strategy<Value = AnnounceRequest> {
        let event = prop::sample::select(vec![
            None,
            Some(AnnounceEvent::Started),
            Some(AnnounceEvent::Completed),
            Some(AnnounceEvent::Stopped),
        ]);
        let text = || prop::option::of("\\PC{1,40}");
        let ids = (
            any::<[u8; 20]>(),
            any::<[u8; 20]>(),
            any::<u16>(),
            any::<Option<IpAddr>>(),
        );
        let counts = (any::<u64>(), any::<u64>(), any::<u64>());
        (
            ids,
            counts,
            event,
            any::<Option<u32>>(),
            any::<(bool, bool)>(),
            text(),
            text(),
        )
            .prop_map(|(ids, counts, event, numwant, lists, key, ticket)| {
                AnnounceRequest {
                    info_hash: InfoHash::from_bytes(ids.0),
                    peer_id: PeerId::from_bytes(ids.1),
                    port: ids.2,
                    ip: ids.3,
                    uploaded: counts.0,
                    downloaded: counts.1,
                    left: counts.2,
                    event,
                    numwant,
                    compact: lists.0,
                    no_peer_id: lists.1,
                    key,
                    ticket,
                }
            })
    }

    proptest! {
        #[test]
        fn round_trip(request in requests()) {
            prop_assert_eq!(AnnounceRequest::from_query(&request.to_query()), Ok(request));
        }

        #[test]
        fn any_text_is_read_or_refused(query: String, extra: String) {
            let _ = AnnounceRequest::from_query(&query);
            let _ = AnnounceRequest::from_query(&format!("{STOCK}&{extra}"));
        }
    }
}
