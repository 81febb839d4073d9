//! Why trackers have not answered.

use url::Url;

/// Why a tracker did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// There is no tracker to ask.
    #[error("the torrent names no tracker with http://, https:// or udp://")]
    NoTracker,
    /// It cannot be reached, or does not answer.
    #[error("tracker {tracker} does not answer: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        tracker: String,
        /// What happened.
        reason: String,
    },
    /// It says no.
    #[error("tracker {tracker} refuses: {reason}")]
    Refused {
        /// Scheme, host and port.
        tracker: String,
        /// In its own words.
        reason: String,
    },
    /// Its answer is malformed.
    #[error("tracker {tracker} sent a malformed answer: {reason}")]
    Malformed {
        /// Scheme, host and port.
        tracker: String,
        /// What is wrong.
        reason: String,
    },
    /// None of several answered; what each said.
    #[error("no tracker answered: {}", shown(.0))]
    NoneAnswered(Vec<TrackerError>),
}

fn shown(errors: &[TrackerError]) -> String {
    let errors: Vec<String> = errors.iter().map(TrackerError::to_string).collect();
    errors.join("; ")
}

/// Why one tracker has not answered.
pub(super) enum Failure {
    Unreachable(String),
    Refused(String),
    Malformed(String),
}

impl Failure {
    pub(super) fn of(self, tracker: &Url) -> TrackerError {
        let tracker = origin(tracker);
        match self {
            Self::Unreachable(reason) => TrackerError::Unreachable { tracker, reason },
            Self::Refused(reason) => TrackerError::Refused { tracker, reason },
            Self::Malformed(reason) => TrackerError::Malformed { tracker, reason },
        }
    }
}

fn origin(tracker: &Url) -> String {
    let host = tracker.host_str().unwrap_or_default();
    let port = tracker.port_or_known_default();
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", tracker.scheme())
}
