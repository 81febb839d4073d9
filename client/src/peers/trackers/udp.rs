//! Trackers over UDP (BEP 15).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use flotilla_torrents::tracker_wire::{
    AddressFamily, AnnounceRequest, AnnounceResponse, ConnectionId, MAX_DATAGRAM_BYTES,
    TransactionId, UdpReply, UdpRequest,
};
use tokio::net::UdpSocket;
use url::Url;

use super::failure::Failure;

/// BEP 15: an answer is waited for 15·2ⁿ s.
pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// BEP 15 retries for more than an hour; a tracker that is silent for two minutes is dead.
pub(super) const MAX_TRIES: u32 = 3;
/// Addresses of one name that are tried: the first of each family, most often.
const MAX_ADDRESSES: usize = 4;
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One tracker.
#[derive(Debug)]
pub(super) struct UdpTracker {
    url: Url,
    host: String,
    port: u16,
}

impl UdpTracker {
    /// None when the URL names no port: UDP trackers have no default port.
    pub(super) fn new(url: Url) -> Option<Self> {
        let host = url.host_str()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            host: host.to_owned(),
            port: url.port().filter(|port| *port != 0)?,
            url,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Announces; each of `tries` waits twice as long as the one before, the first for `wait`.
    pub(super) async fn announce(
        &self,
        request: &AnnounceRequest,
        wait: Duration,
        tries: u32,
    ) -> Result<AnnounceResponse, Failure> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, found)
            .await
            .map_err(|_| Failure::Unreachable("its name is not resolved".to_owned()))?;
        let addresses: Vec<SocketAddr> = found?.take(MAX_ADDRESSES).collect();
        let mut failure = Failure::Unreachable("its name has no address".to_owned());
        for address in addresses {
            failure = match announce_at(address, request, wait, tries).await {
                Ok(response) => return Ok(response),
                // It has answered: its other addresses would not say anything else.
                Err(refused @ Failure::Refused(_)) => return Err(refused),
                Err(failure) => failure,
            };
        }
        Err(failure)
    }
}

async fn announce_at(
    address: SocketAddr,
    request: &AnnounceRequest,
    wait: Duration,
    tries: u32,
) -> Result<AnnounceResponse, Failure> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket hears of the tracker only.
    socket.connect(address).await?;
    let mut exchange = Exchange {
        socket,
        family: AddressFamily::of(address.ip()),
        wait,
        tries,
    };
    // An id is good for a minute, most intervals are longer: none is kept.
    let connection = exchange.connect().await?;
    exchange.announce(connection, request).await
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// The conversation with one address of a tracker.
struct Exchange {
    socket: UdpSocket,
    family: AddressFamily,
    wait: Duration,
    /// Those that are left, over both requests.
    tries: u32,
}

impl Exchange {
    async fn connect(&mut self) -> Result<ConnectionId, Failure> {
        let transaction = TransactionId(rand::random());
        let asked = UdpRequest::Connect(transaction);
        match self.ask(&asked, transaction).await? {
            UdpReply::Connect(_, id) => Ok(id),
            UdpReply::Error(_, reason) => Err(Failure::Refused(reason)),
            _ => Err(other_answer()),
        }
    }

    async fn announce(
        &mut self,
        connection: ConnectionId,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, Failure> {
        let transaction = TransactionId(rand::random());
        let asked = UdpRequest::Announce(connection, transaction, Box::new(request.clone()));
        match self.ask(&asked, transaction).await? {
            UdpReply::Announce(_, response) => Ok(response),
            UdpReply::Error(_, reason) => Err(Failure::Refused(reason)),
            _ => Err(other_answer()),
        }
    }

    /// Sends `request` until it is answered. What does not answer this very request is passed over:
    /// it may be a late answer to an earlier one, or a guess.
    async fn ask(
        &mut self,
        request: &UdpRequest,
        transaction: TransactionId,
    ) -> Result<UdpReply, Failure> {
        let datagram = request.to_bytes();
        loop {
            self.socket.send(&datagram).await?;
            let answer = tokio::time::timeout(self.wait, self.answer_to(transaction)).await;
            if let Ok(answer) = answer {
                return answer;
            }
            self.tries = self.tries.saturating_sub(1);
            if self.tries == 0 {
                return Err(Failure::Unreachable("it is silent".to_owned()));
            }
            self.wait = self.wait.saturating_mul(2);
        }
    }

    async fn answer_to(&self, transaction: TransactionId) -> Result<UdpReply, Failure> {
        // One byte more than the longest, so that a longer one is seen to be one.
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES + 1];
        loop {
            let length = self.socket.recv(&mut buffer).await;
            // ICMP reports a refused port.
            let length = length?;
            let datagram = buffer.get(..length).unwrap_or_default();
            let names_it = datagram.get(4..8) == Some(&transaction.0.to_be_bytes());
            match UdpReply::from_bytes(datagram, self.family) {
                Ok(reply) if reply.transaction() == transaction => return Ok(reply),
                Err(error) if names_it => return Err(Failure::Malformed(error.to_string())),
                _ => {}
            }
        }
    }
}

fn other_answer() -> Failure {
    Failure::Malformed("it answers something else".to_owned())
}
