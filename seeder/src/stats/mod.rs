//! The supernode's eyes: what it knows of its swarms and nodes, as a page, as an API and as metrics.
//!
//! - [`state`]: what is reported, without IO, and the traffic of the last week on the disk;
//! - [`observer`]: where reports come in and rows are taken from;
//! - [`views`]: rows of swarms, nodes and jobs; lists of them, searched, sorted and cut into pages;
//! - [`http`]: gives a view once, or again and again, and describes the API;
//! - [`access`]: who may see it; [`page`]: the files of the page.

mod access;
mod http;
mod observer;
mod page;
mod state;
mod views;
mod web;

pub(crate) use self::access::Access;
pub(crate) use self::http::router::router;
#[cfg(test)]
pub(crate) use self::observer::name_of;
pub(crate) use self::observer::{Statistics, watch_engine};
pub(crate) use self::state::history_file::HistoryFile;
pub(crate) use self::views::job_rows::JobList;
pub(crate) use self::web::{Events, Web};
