//! The supernode's eyes: what it knows of its swarms and nodes, as a page, as an API and as metrics.
//!
//! [`book`] keeps what is reported, without IO, and [`history_file`] the traffic of the last week on
//! the disk; [`rows`] and [`job_rows`] are what is told of it, [`listing`] searches,
//! sorts and cuts them into pages; [`view`] makes the answers, which [`api`] gives once and [`events`]
//! again and again, [`openapi`] describes; [`access`] says who may see it; [`page`] are the files of the page.

mod access;
mod api;
mod book;
mod events;
mod history_file;
mod job_rows;
mod listing;
mod login;
mod metrics;
mod observer;
mod openapi;
mod page;
mod router;
mod rows;
mod schema;
mod traffic;
mod view;
mod web;

pub(crate) use self::access::Access;
pub(crate) use self::history_file::HistoryFile;
pub(crate) use self::job_rows::JobList;
#[cfg(test)]
pub(crate) use self::observer::name_of;
pub(crate) use self::observer::{Statistics, watch_engine};
pub(crate) use self::router::router;
pub(crate) use self::web::{Events, Web};
