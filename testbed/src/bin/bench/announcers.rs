//! Simulated nodes that announce themselves over kept connections, one after the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla_cluster::messages::node_report::{NodeReport, SwarmPart};
use flotilla_cluster::{Ticket, TicketSigner};
use flotilla_testbed::Host;
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{InfoHash, PeerId};

/// A supernode that does not answer for this long is broken.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);
/// An answer without peers is far shorter.
const MAX_ANSWER_LENGTH: usize = 16 * 1024;

/// Some of the nodes, on one connection.
#[derive(Debug)]
pub(crate) struct Announcer {
    stream: TcpStream,
    /// One of each node; made beforehand, so that the supernode's part is measured.
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl Announcer {
    /// Shares `nodes` nodes in `swarms` swarms out among `connections` connections from `host`.
    pub(crate) fn connect(
        host: &Host,
        supernode: SocketAddr,
        signer: &TicketSigner,
        (nodes, swarms, connections): (u32, u32, u32),
    ) -> Result<Vec<Self>> {
        let announcers = (0..connections).map(|first| {
            let stream = host.connect(supernode)?;
            stream.set_read_timeout(Some(ANNOUNCE_TIMEOUT))?;
            let numbers = (first..nodes).step_by(usize::try_from(connections)?);
            let requests = numbers.map(|node| request(supernode, signer, node, node % swarms));
            Ok(Self {
                stream,
                requests: requests.collect::<Result<_>>()?,
                next: 0,
            })
        });
        announcers.collect()
    }

    /// Every node once.
    pub(crate) fn announce_all(&mut self) -> Result<()> {
        for _ in 0..self.requests.len() {
            self.announce_next()?;
        }
        Ok(())
    }

    /// Node after node until `end`; how many it were.
    pub(crate) fn announce_until(&mut self, end: Instant) -> Result<u32> {
        let mut announces = 0;
        while Instant::now() < end {
            self.announce_next()?;
            announces += 1;
        }
        Ok(announces)
    }

    fn announce_next(&mut self) -> Result<()> {
        let request = self.requests.get(self.next).context("no node announces")?;
        self.next = (self.next + 1) % self.requests.len();
        self.stream.write_all(request)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&answer) {
            let read = self.stream.read(&mut buffer).context("no answer")?;
            ensure!(read > 0, "the supernode hangs up in an announce");
            answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
            ensure!(answer.len() < MAX_ANSWER_LENGTH, "an answer does not end");
        }
        let text = String::from_utf8_lossy(&answer);
        let is_granted = text.starts_with("HTTP/1.1 200") && !text.contains("14:failure reason");
        ensure!(is_granted, "an announce is refused: {text}");
        Ok(())
    }
}

/// Whether an answer holds as much as its `Content-Length` says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= head + 4 + length)
}

/// The whole request of a seeder; it asks for no peers, which leaves most to the statistics.
fn request(supernode: SocketAddr, signer: &TicketSigner, node: u32, swarm: u32) -> Result<Vec<u8>> {
    let (swarm, peer_id) = (
        InfoHash::from_bytes(id(swarm)),
        PeerId::from_bytes(id(node)),
    );
    let ticket = signer.sign(&Ticket {
        swarm,
        peer_id,
        expires: u64::MAX,
    });
    let request = AnnounceRequest {
        info_hash: swarm,
        peer_id,
        port: 65002,
        ip: None,
        uploaded: 0,
        downloaded: 0,
        left: 0,
        event: None,
        numwant: Some(0),
        compact: true,
        no_peer_id: true,
        key: None,
        ticket: Some(ticket.to_string()),
    };
    let report = NodeReport {
        node: format!("node-{node:05}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        swarm: SwarmPart {
            is_first: true,
            from_peers: node.into(),
            ..SwarmPart::default()
        },
        ..NodeReport::default()
    };
    let head = format!(
        "GET /announce?{} HTTP/1.1\r\nhost: {supernode}\r\n{}: {}\r\n\r\n",
        request.to_query(),
        NodeReport::HEADER,
        report.to_header().context("a report is too long")?
    );
    Ok(head.into_bytes())
}

fn id(number: u32) -> [u8; 20] {
    let mut bytes = [7; 20];
    let end = number.to_be_bytes();
    bytes
        .iter_mut()
        .rev()
        .zip(end.iter().rev())
        .for_each(|(byte, of)| *byte = *of);
    bytes
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn an_answer_is_whole_when_all_of_its_body_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nd0ee";
        assert!(is_whole(answer));
        for missing in 1..=answer.len() {
            let (part, _) = answer.split_at(answer.len() - missing);
            assert!(!is_whole(part), "{}", part.len());
        }
    }
}
