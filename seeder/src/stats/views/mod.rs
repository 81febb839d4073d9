//! What the page and the API show of the cluster's state.

pub(super) mod job_rows;
pub(super) mod listing;
pub(super) mod rows;
pub(super) mod schema;
pub(super) mod view;
