//! An open statistics page: a stream of server-sent events that is read to nowhere.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_testbed::Host;

/// The longest wait for bytes before the clock is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// One view of one page.
#[derive(Debug)]
pub(crate) struct EventStream(TcpStream);

impl EventStream {
    /// Opens `view`, the query of `/api/v1/events`, with the cluster's join token, and waits until
    /// its first event has begun.
    pub(crate) fn open(
        host: &Host,
        supernode: SocketAddr,
        join_token: &str,
        view: &str,
    ) -> Result<Self> {
        let mut stream = host.connect(supernode)?;
        stream.set_read_timeout(Some(FIRST_EVENT_TIMEOUT))?;
        let head = format!(
            "GET /api/v1/events?{view} HTTP/1.1\r\nhost: {supernode}\r\n\
             authorization: Bearer {join_token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(6).any(|part| part == b"data: ") {
            let read = stream.read(&mut buffer).context("no first event")?;
            seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
            let text = String::from_utf8_lossy(&seen);
            let is_open = read > 0 && seen.starts_with(b"HTTP/1.1 200");
            ensure!(is_open, "the stream of {view} is refused: {text}");
        }
        stream.set_read_timeout(Some(POLL_INTERVAL))?;
        Ok(Self(stream))
    }

    /// The bytes that arrive until `end`.
    pub(crate) fn read_until(&mut self, end: Instant) -> Result<usize> {
        let mut bytes = 0;
        let mut buffer = [0; 64 * 1024];
        while Instant::now() < end {
            match self.0.read(&mut buffer) {
                Ok(0) => anyhow::bail!("the supernode ends an event stream"),
                Ok(read) => bytes += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("an event stream breaks"),
            }
        }
        Ok(bytes)
    }
}
