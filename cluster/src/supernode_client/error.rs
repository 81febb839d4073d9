//! How a call to a supernode fails.

use url::Url;

/// A call to a supernode failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupernodeError {
    /// It cannot be reached, or went silent.
    #[error("supernode {supernode} cannot be reached: {reason}")]
    Unreachable {
        /// Its URL.
        supernode: Url,
        /// What happened.
        reason: String,
    },
    /// It does not take this node for a member of the cluster.
    #[error(
        "supernode {supernode} refuses this node: wrong or missing join token (set FLOTILLA_JOIN_TOKEN or --join-token-file to the cluster's)"
    )]
    NotAMember {
        /// Its URL.
        supernode: Url,
    },
    /// It answered something that is not understood.
    #[error("supernode {supernode} answered {what}")]
    Unexpected {
        /// Its URL.
        supernode: Url,
        /// The answer, in brief.
        what: String,
    },
    /// It cannot bring the content now.
    #[error("supernode {supernode} cannot bring it: {reason}")]
    Elsewhere {
        /// Its URL.
        supernode: Url,
        /// What it said.
        reason: String,
    },
    /// None of them can be asked now; what they failed with last.
    #[error("{0}")]
    NoneHealthy(String),
}

impl SupernodeError {
    /// In a word, for traces.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::NoneHealthy(_) => "unreachable",
            Self::NotAMember { .. } => "not_a_member",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Unexpected { .. } => "unexpected_answer",
        }
    }
}
