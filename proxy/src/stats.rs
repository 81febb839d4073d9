//! What the proxy has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::marks::{Mark, MarkCounts};

/// Counters of one proxy since its start.
#[derive(Debug, Default)]
pub struct ProxyStats {
    swarm_bytes: AtomicU64,
    fallback_bytes: AtomicU64,
    layers: AtomicU64,
    fallbacks: AtomicU64,
    passes: AtomicU64,
    kept: AtomicU64,
    marks: MarkCounts,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Layer bytes that came from the swarm or from this node's disk.
    pub swarm_bytes: u64,
    /// Layer bytes that the registry delivered inside a response begun from the swarm.
    pub fallback_bytes: u64,
    /// Responses begun from the swarm or from this node's disk.
    pub layers: u64,
    /// Times that the registry took over in such a response.
    pub fallbacks: u64,
    /// Requests passed through to their target.
    pub passes: u64,
    /// Layers that seed from what was kept of their push.
    pub kept: u64,
}

impl ProxyStats {
    /// The counters now.
    pub fn counts(&self) -> ProxyCounts {
        ProxyCounts {
            swarm_bytes: self.swarm_bytes.load(Ordering::Relaxed),
            fallback_bytes: self.fallback_bytes.load(Ordering::Relaxed),
            layers: self.layers.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            passes: self.passes.load(Ordering::Relaxed),
            kept: self.kept.load(Ordering::Relaxed),
        }
    }

    /// How often a mark was set.
    pub fn marked(&self, mark: Mark) -> u64 {
        self.marks.of(mark)
    }

    /// By `set_mark`, which also writes the log line.
    pub(crate) fn count_mark(&self, mark: Mark) {
        self.marks.add(mark);
    }

    pub(crate) fn count_swarm_bytes(&self, bytes: usize) {
        self.swarm_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_fallback_bytes(&self, bytes: usize) {
        self.fallback_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_layer(&self) {
        self.layers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }
}
