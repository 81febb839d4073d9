//! The tracker over UDP (BEP 15).
//!
//! Addresses of datagrams can be forged. No address gets more bytes than it sent, unless it shows a
//! connection id, which only he could receive; and nothing is remembered before that.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use flotilla_torrents::tracker_wire::{
    AddressFamily, MAX_DATAGRAM_BYTES, UdpReply, UdpRequest, UdpScrapeCounts,
};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::Tracker;
use crate::connection_ids::ConnectionIds;

impl Tracker {
    /// Answers datagrams on `socket` until `shutdown`. A UDP announce carries no ticket: only swarms
    /// that are open to strangers are tracked here.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn serve_udp(
        &self,
        socket: UdpSocket,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let ids = ConnectionIds::new(&rand::random(), Instant::now());
        // One byte more than the longest: what fills it is not a request.
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES + 1];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                received = socket.recv_from(&mut buffer) => received,
            };
            let (length, remote) = match received {
                Ok(received) => received,
                // An answer to an address that is not there came back as ICMP message.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = self.datagram_for(&ids, remote, datagram) {
                // Without room in the socket's buffer it is lost, as datagrams are.
                if let Err(error) = socket.try_send_to(&answer, remote) {
                    tracing::debug!(peer.addr = %remote, %error, "not answered");
                }
            }
        }
    }

    /// The answer; none to what is malformed or does not show a connection id.
    fn datagram_for(
        &self,
        ids: &ConnectionIds,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let now = Instant::now();
        let (ip, family) = (remote.ip(), AddressFamily::of(remote.ip()));
        let reply = match UdpRequest::from_bytes(datagram).ok()? {
            UdpRequest::Connect(transaction) => UdpReply::Connect(transaction, ids.issue(now, ip)),
            UdpRequest::Announce(id, ..) | UdpRequest::Scrape(id, ..)
                if !ids.accepts(now, ip, id) =>
            {
                return None;
            }
            UdpRequest::Announce(_, transaction, request) => {
                match self.announce(ip, &request, None) {
                    Ok(handed_out) => UdpReply::Announce(transaction, handed_out.response),
                    Err(reason) => UdpReply::Error(transaction, reason),
                }
            }
            UdpRequest::Scrape(_, transaction, swarms) => {
                // The counts have no names, so each swarm has its place: zeros say as little of a
                // closed one as of one that is not there.
                let counts = swarms.into_iter().map(|swarm| {
                    let entry = self.scrape(swarm);
                    entry.map_or_else(UdpScrapeCounts::default, |entry| UdpScrapeCounts {
                        seeders: entry.complete,
                        completed: entry.downloaded,
                        leechers: entry.incomplete,
                    })
                });
                UdpReply::Scrape(transaction, counts.collect())
            }
        };
        Some(reply.to_bytes(family))
    }
}
