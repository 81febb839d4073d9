//! The messages between peers and an HTTP tracker: BEP 3, compact peer lists (BEP 23 and BEP 7),
//! scrape (BEP 48).

mod announce_reply;
mod announce_request;
mod query;
mod scrape;

pub use announce_reply::{AnnounceReply, AnnounceReplyError, AnnounceResponse};
pub use announce_request::{AnnounceEvent, AnnounceRequest, AnnounceRequestError};
pub use query::QueryError;
pub use scrape::{
    ScrapeEntry, ScrapeRequest, ScrapeRequestError, ScrapeResponse, ScrapeResponseError,
};
