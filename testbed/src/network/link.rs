//! Shaped links and what passed over them.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::network::namespace::{Namespace, run};

/// The speed of a link, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRate {
    megabits: u32,
}

impl LinkRate {
    /// A rate in Mbit/s (10^6 bits), as it is seen on the wire with all headers.
    pub fn megabits(megabits: u32) -> Self {
        Self { megabits }
    }

    /// Bytes per second.
    pub fn bytes_per_second(self) -> u64 {
        u64::from(self.megabits) * 125_000
    }

    /// Token bucket of `device`: everything that leaves through it is held to the rate.
    ///
    /// Measured at 50 Mbit/s with curl and nginx: 47.8 Mbit/s of goodput in one flow, 47.6 in
    /// twenty, offloads left on (the token bucket splits what is larger than its burst). The queue
    /// is 40 ms deep: at half of that a fifth flow starts to lose, and pfifo's 1000 packets would
    /// be 64 MB when they are not yet segmented.
    pub(crate) fn shape(self, namespace: &Namespace, device: &str) -> Result<()> {
        let rate = format!("{}mbit", self.megabits);
        let burst = (self.bytes_per_second() / 250).max(32 << 10).to_string();
        let queue = (self.bytes_per_second() / 25).max(256 << 10).to_string();
        run(
            "tc",
            &[
                "-n",
                namespace.name(),
                "qdisc",
                "replace",
                "dev",
                device,
                "root",
                "tbf",
                "rate",
                &rate,
                "burst",
                &burst,
                "limit",
                &queue,
            ],
        )?;
        Ok(())
    }
}

/// Bytes an interface has carried since it was created, link headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceBytes {
    /// Arrived at the host.
    pub received: u64,
    /// Left the host.
    pub sent: u64,
}

impl InterfaceBytes {
    /// What passed since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            sent: self.sent.saturating_sub(earlier.sent),
        }
    }

    pub(crate) fn read(namespace: &Namespace, device: &str) -> Result<Self> {
        let answer = run(
            "ip",
            &[
                "-n",
                namespace.name(),
                "-json",
                "-statistics",
                "link",
                "show",
                device,
            ],
        )?;
        let links: Value = serde_json::from_str(&answer).context("ip -json link")?;
        let counter = |direction: &str| {
            links
                .pointer(&format!("/0/stats64/{direction}/bytes"))
                .and_then(Value::as_u64)
                .with_context(|| format!("ip -json link {device}: no {direction} bytes"))
        };
        Ok(Self {
            received: counter("rx")?,
            sent: counter("tx")?,
        })
    }
}
