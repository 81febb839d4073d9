//! The messages between peers and a tracker: over HTTP BEP 3, compact peer lists (BEP 23 and BEP 7)
//! and scrape (BEP 48), over UDP BEP 15.

mod announce_reply;
mod announce_request;
mod query;
mod scrape;
mod udp;

pub use announce_reply::{AnnounceReply, AnnounceReplyError, AnnounceResponse};
pub use announce_request::{AnnounceEvent, AnnounceRequest, AnnounceRequestError};
pub use query::QueryError;
pub use scrape::{
    ScrapeEntry, ScrapeRequest, ScrapeRequestError, ScrapeResponse, ScrapeResponseError,
};
pub use udp::{
    AddressFamily, ConnectionId, MAX_DATAGRAM_BYTES, MAX_SCRAPED, TransactionId, UdpMessageError,
    UdpReply, UdpRequest, UdpScrapeCounts,
};
