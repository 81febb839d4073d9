//! What the registry's own log says about blobs.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// Blob transfers out of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobTraffic {
    /// Body bytes of successful blob `GET`s.
    pub bytes: u64,
    /// Successful blob `GET`s, one-byte authorization probes included.
    pub requests: u64,
    /// Those of them that moved a whole blob: neither probes nor ranges.
    pub whole: u64,
    /// Requests of any kind that were refused with 401.
    pub refused: u64,
    /// Body bytes by client.
    pub bytes_by_client: BTreeMap<IpAddr, u64>,
}

impl BlobTraffic {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let by_client = self.bytes_by_client.iter().map(|(client, bytes)| {
            let before = earlier.bytes_by_client.get(client).copied();
            (*client, bytes.saturating_sub(before.unwrap_or(0)))
        });
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            requests: self.requests.saturating_sub(earlier.requests),
            whole: self.whole.saturating_sub(earlier.whole),
            refused: self.refused.saturating_sub(earlier.refused),
            bytes_by_client: by_client.filter(|(_, bytes)| *bytes > 0).collect(),
        }
    }
}

/// The log, read up to now.
#[derive(Debug, Default)]
pub(crate) struct RegistryLog {
    pub(crate) traffic: BlobTraffic,
    /// Requests that were let in and not yet answered.
    pub(crate) in_flight: usize,
}

#[derive(Deserialize)]
struct Entry {
    msg: String,
    #[serde(rename = "http.request.id")]
    request: Option<String>,
    #[serde(rename = "http.request.method", default)]
    method: String,
    #[serde(rename = "http.request.uri", default)]
    uri: String,
    #[serde(rename = "http.request.remoteaddr")]
    client: Option<SocketAddr>,
    #[serde(rename = "http.response.status", default)]
    status: u16,
    #[serde(rename = "http.response.written", default)]
    written: u64,
}

impl RegistryLog {
    /// docker-registry 2.8 writes "authorized request" when it lets a request in, and
    /// "response completed" (or "... with error") when the last byte is written. One that it
    /// refuses is only "error authorizing context".
    pub(crate) fn parse(log: &str) -> Self {
        let mut parsed = Self::default();
        let mut open = HashSet::new();
        for entry in log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
        {
            let entry: Entry = entry;
            let request = entry.request.clone().unwrap_or_default();
            match entry.msg.as_str() {
                "authorized request" => {
                    open.insert(request);
                }
                message if message.starts_with("response completed") => {
                    open.remove(&request);
                    parsed.count(&entry);
                }
                message if message.starts_with("error authorizing context") => {
                    parsed.traffic.refused += 1;
                }
                _ => {}
            }
        }
        parsed.in_flight = open.len();
        parsed
    }

    fn count(&mut self, entry: &Entry) {
        let blob = entry.uri.starts_with("/v2/") && entry.uri.contains("/blobs/sha256:");
        if !blob || entry.method != "GET" || !matches!(entry.status, 200 | 206) {
            return;
        }
        self.traffic.bytes += entry.written;
        self.traffic.requests += 1;
        self.traffic.whole += u64::from(entry.status == 200);
        if let Some(client) = entry.client {
            *self.traffic.bytes_by_client.entry(client.ip()).or_default() += entry.written;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RegistryLog;

    fn line(message: &str, request: &str, method: &str, status: u16, written: u64) -> String {
        serde_json::json!({
            "msg": message, "http.request.id": request, "http.request.method": method,
            "http.request.uri": "/v2/demo/app/blobs/sha256:00",
            "http.request.remoteaddr": "10.77.0.9:4711",
            "http.response.status": status, "http.response.written": written,
        })
        .to_string()
    }

    #[test]
    fn bytes_count_when_the_response_ends_and_only_for_blob_gets() {
        let started = line("authorized request", "a", "GET", 0, 0);
        let running = RegistryLog::parse(&started);
        assert_eq!((running.in_flight, running.traffic.bytes), (1, 0));

        let log = [
            started,
            line("response completed", "a", "GET", 200, 1000),
            line("response completed", "b", "HEAD", 200, 0),
            line("response completed with error", "c", "GET", 404, 157),
            line("response completed", "d", "GET", 206, 1),
            line("error authorizing context: basic", "e", "GET", 0, 0),
        ]
        .join("\n");
        let done = RegistryLog::parse(&log);
        assert_eq!(done.in_flight, 0);
        assert_eq!((done.traffic.bytes, done.traffic.requests), (1001, 2));
        assert_eq!(done.traffic.whole, 1);
        assert_eq!(done.traffic.refused, 1);
    }
}
