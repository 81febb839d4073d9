//! Peers of a swarm: how they are met, what they say beside pieces, which of them are dialled.
//!
//! [`connection`] makes and accepts the BEP 3 handshake with tickets, [`io`] reads and writes an
//! established connection, [`extensions`] are those of stock clients (BEP 9, 10, 11), [`trackers`]
//! asks trackers for addresses, and [`web_seed`] is a peer that is an HTTP server (BEP 19).

pub(crate) mod bans;
pub(crate) mod connection;
pub(crate) mod extensions;
pub(crate) mod io;
pub mod metadata_exchange;
pub(crate) mod open_torrent;
pub(crate) mod priority;
pub mod trackers;
pub mod web_seed;
