//! What is known of the cluster: now, and of the last week.

pub(super) mod cluster_state;
pub(super) mod history_file;
pub(super) mod traffic;
