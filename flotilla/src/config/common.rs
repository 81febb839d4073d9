//! Options that both roles have.

use std::path::PathBuf;

use clap::Args;

use super::units::ByteCount;
use crate::otlp::{OtlpEndpoint, TraceRatio};

/// A few dozen large images; less than the disk of any node that runs them.
pub(crate) const CACHE_QUOTA: ByteCount = ByteCount(64 << 30);

/// What supernode and proxy have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// Disk space for layers
    ///
    /// Beyond it the least recently used layers are evicted. Layers in use and pinned ones stay.
    #[arg(long, value_name = "SIZE", default_value_t = CACHE_QUOTA, help_heading = "Cache")]
    pub(crate) cache_quota: ByteCount,
    /// File with the cluster's secret [default: none]
    ///
    /// The secret has at least 16 printable characters without spaces. A supernode that other
    /// machines can reach makes one on its first start and keeps it in DATA-DIR/join-token.
    ///
    /// Environment: FLOTILLA_JOIN_TOKEN holds the secret itself.
    ///
    /// Example: /etc/flotilla/join-token
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// OpenTelemetry collector for traces [default: none]
    ///
    /// The base URL for OTLP over HTTP; traces are posted below it, to /v1/traces. An empty value
    /// turns traces off.
    ///
    /// Example: http://127.0.0.1:4318
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env = true,
        help_heading = "Traces"
    )]
    pub(crate) otlp_endpoint: Option<OtlpEndpoint>,
    /// Share of the traces to record
    ///
    /// It counts for traces that begin here. A request with a traceparent header brings its own
    /// decision.
    #[arg(long, value_name = "RATIO", default_value_t, help_heading = "Traces")]
    pub(crate) trace_ratio: TraceRatio,
}
