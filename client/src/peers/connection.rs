//! Meeting a peer: TCP, the handshakes of BEP 3 and BEP 10, and the ticket.
//!
//! Nothing about a protected swarm leaves this host before the remote end has shown a
//! ticket: no bitfield, no piece. A remote end without one may only give. A swarm that is open to
//! strangers asks for no ticket and takes what the specs allow: the extended handshake may come
//! later, or not at all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_cluster::{SignedTicket, TicketKeys, unix_now};
use flotilla_torrents::peer_wire::{ExtendedHandshake, Handshake, Message, MessageDecoder};
use flotilla_torrents::{InfoHash, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::peers::extensions as peer_extensions;
use crate::peers::open_torrent::OpenTorrent;
use crate::swarm::{OWN_BLOCK, PeerTraits, REQUEST_QUEUE};

/// A host that does not answer by then is gone; the tracker names others.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Both handshakes are a few hundred bytes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A block with what is before its data; a bitfield of 2^20 pieces is smaller.
const MAX_MESSAGE_BYTES: u32 = OWN_BLOCK + 16;
/// Room for the handshakes: a few hundred bytes.
const HANDSHAKE_BYTES: usize = 1024;
/// Unsent bytes that the kernel may hold per connection. More would take the choice which peer
/// to serve next away from the upload queue.
pub(super) const NOT_SENT_LOW_WATER: u32 = 64 * 1024;

/// A peer whose handshakes are done.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) traits: PeerTraits,
    /// This end opened the connection.
    pub(crate) dialled: bool,
    pub(crate) decoder: MessageDecoder,
    /// Bytes that followed the handshakes.
    pub(crate) received: BytesMut,
    /// The torrent in whose name the two met, when it was no ticket that let them.
    pub(crate) torrent: Option<Arc<OpenTorrent>>,
}

/// Why two ends did not become peers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum HandshakeError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The remote end did not finish the handshakes in time.
    #[error("no handshake within {}s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The remote end spoke something else.
    #[error("{0}")]
    Protocol(String),
    /// The remote end asked for a swarm that is not here.
    #[error("no swarm {0} here")]
    UnknownSwarm(InfoHash),
    /// The connection leads back here.
    #[error("connected to itself")]
    Myself,
    /// The remote end wants pieces and has no valid ticket.
    #[error("no valid ticket: {0}")]
    Ticket(String),
    /// The remote end is shunned.
    #[error("shunned peer {0}")]
    Shunned(PeerId),
}

/// What this end shows.
#[derive(Clone, Debug)]
pub(crate) struct LocalIdentity {
    /// The swarm's name in this meeting.
    pub(crate) swarm: InfoHash,
    pub(crate) peer_id: PeerId,
    pub(crate) access: Access,
}

/// Which peers may have the pieces.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Peers that show a ticket signed with one of the keys.
    Protected {
        ticket: Option<SignedTicket>,
        keys: TicketKeys,
    },
    /// All peers.
    Open {
        /// None while its metainfo is still asked for.
        torrent: Option<Arc<OpenTorrent>>,
        /// This end wants nothing any more (BEP 21).
        complete: bool,
        listen_port: u16,
    },
}

impl LocalIdentity {
    fn handshake(&self) -> Handshake {
        Handshake {
            info_hash: self.swarm,
            peer_id: self.peer_id,
            extended: true,
            fast: true,
        }
    }

    fn extended_handshake(&self) -> Message {
        let mut extended = ExtendedHandshake {
            v: Some(concat!("flotilla ", env!("CARGO_PKG_VERSION")).to_owned()),
            reqq: Some(u32::try_from(REQUEST_QUEUE).unwrap_or(u32::MAX)),
            fl_block: Some(OWN_BLOCK),
            ..ExtendedHandshake::default()
        };
        match &self.access {
            Access::Protected { ticket, .. } => {
                extended.fl_ticket = ticket.as_ref().map(|ticket| ticket.as_bytes().to_vec());
            }
            Access::Open {
                torrent,
                complete,
                listen_port,
            } => {
                extended.m = peer_extensions::offered(torrent.as_deref());
                extended.p = Some(*listen_port);
                extended.upload_only = *complete;
                let info = torrent.as_ref().map(|torrent| torrent.info.len());
                extended.metadata_size = info.and_then(|length| u32::try_from(length).ok());
            }
        }
        Message::Extended {
            id: 0,
            payload: Bytes::from(extended.to_bytes()),
        }
    }
}

/// Connects to `remote` and introduces this end.
pub(crate) async fn dial(
    remote: SocketAddr,
    me: &LocalIdentity,
) -> Result<PeerConnection, HandshakeError> {
    let connect = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(remote));
    let mut stream = connect
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream)?;
    within_time(async {
        let mut first = BytesMut::from(me.handshake().encode().as_slice());
        let protected = matches!(me.access, Access::Protected { .. });
        if protected {
            me.extended_handshake().encode(&mut first);
        }
        stream.write_all(&first).await?;
        let mut received = BytesMut::with_capacity(HANDSHAKE_BYTES);
        let theirs = read_handshake(&mut stream, &mut received).await?;
        if theirs.info_hash != me.swarm {
            return Err(HandshakeError::UnknownSwarm(theirs.info_hash));
        }
        // A stranger may not know BEP 10.
        if !protected && theirs.extended {
            let mut second = BytesMut::new();
            me.extended_handshake().encode(&mut second);
            stream.write_all(&second).await?;
        }
        finish(stream, remote, me, theirs, received, true).await
    })
    .await
}

/// Answers an incoming connection; `identify` says how this end shows itself in the swarm
/// that the remote end names.
pub(crate) async fn accept(
    mut stream: TcpStream,
    remote: SocketAddr,
    identify: impl AsyncFnOnce(InfoHash, PeerId) -> Result<LocalIdentity, HandshakeError>,
) -> Result<(PeerConnection, InfoHash), HandshakeError> {
    tune(&stream)?;
    within_time(async {
        let mut received = BytesMut::with_capacity(HANDSHAKE_BYTES);
        let theirs = read_handshake(&mut stream, &mut received).await?;
        let me = identify(theirs.info_hash, theirs.peer_id).await?;
        // The swarm's name is no secret: a peer that knows nothing else must not obtain a ticket. This
        // end shows its own after it has seen the other's.
        let protected = matches!(me.access, Access::Protected { .. });
        let mut reply = BytesMut::from(me.handshake().encode().as_slice());
        if theirs.extended && !protected {
            me.extended_handshake().encode(&mut reply);
        }
        stream.write_all(&reply).await?;
        let mut connection = finish(stream, remote, &me, theirs, received, false).await?;
        if protected {
            let mut second = BytesMut::new();
            me.extended_handshake().encode(&mut second);
            connection.stream.write_all(&second).await?;
        }
        Ok((connection, me.swarm))
    })
    .await
}

async fn within_time<T>(
    meeting: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, meeting)
        .await
        .map_err(|_| HandshakeError::Timeout)?
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)
}

async fn read_handshake(
    stream: &mut TcpStream,
    received: &mut BytesMut,
) -> Result<Handshake, HandshakeError> {
    while received.len() < Handshake::LENGTH {
        // Clients that try encryption first wait for this close (SWARM: MSE) to retry in
        // plain text.
        if received.first().is_some_and(|byte| *byte != 19) {
            return Err(HandshakeError::Protocol(
                "not the BitTorrent protocol".to_owned(),
            ));
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    let head = received.split_to(Handshake::LENGTH);
    let head = head.first_chunk().ok_or(HandshakeError::Timeout)?;
    Handshake::decode(head).map_err(|e| HandshakeError::Protocol(e.to_string()))
}

async fn finish(
    mut stream: TcpStream,
    remote: SocketAddr,
    me: &LocalIdentity,
    theirs: Handshake,
    mut received: BytesMut,
    dialled: bool,
) -> Result<PeerConnection, HandshakeError> {
    if theirs.peer_id == me.peer_id {
        return Err(HandshakeError::Myself);
    }
    let mut decoder = MessageDecoder::new(MAX_MESSAGE_BYTES);
    let keys = match &me.access {
        Access::Protected { keys, .. } => keys,
        Access::Open { torrent, .. } => {
            return Ok(PeerConnection {
                stream,
                remote,
                peer_id: theirs.peer_id,
                traits: PeerTraits::of_stranger(theirs.fast),
                dialled,
                decoder,
                received,
                torrent: torrent.clone(),
            });
        }
    };
    if !theirs.extended {
        return Err(HandshakeError::Ticket(
            "the peer does not speak BEP 10".to_owned(),
        ));
    }
    let extended = loop {
        let message = decoder
            .decode(&mut received)
            .map_err(|e| HandshakeError::Protocol(e.to_string()))?;
        match message {
            Some(Message::Extended { id: 0, payload }) => {
                break ExtendedHandshake::from_bytes(&payload)
                    .map_err(|e| HandshakeError::Protocol(e.to_string()))?;
            }
            Some(Message::KeepAlive) => {}
            Some(_) => {
                return Err(HandshakeError::Protocol(
                    "message before the extended handshake".to_owned(),
                ));
            }
            None => {
                if stream.read_buf(&mut received).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    };
    let authorized = match &extended.fl_ticket {
        Some(bytes) => {
            check_ticket(bytes, me.swarm, keys, theirs.peer_id).map_err(HandshakeError::Ticket)?;
            true
        }
        // The dialling end wants pieces. The dialled end may be a seeder without a ticket.
        None if dialled => false,
        None => return Err(HandshakeError::Ticket("none shown".to_owned())),
    };
    let traits = PeerTraits {
        authorized,
        stranger: false,
        block_length: extended.block_length(OWN_BLOCK),
        request_queue: extended.request_queue(),
        fast: theirs.fast,
    };
    Ok(PeerConnection {
        stream,
        remote,
        peer_id: theirs.peer_id,
        traits,
        dialled,
        decoder,
        received,
        torrent: None,
    })
}

fn check_ticket(
    bytes: &[u8],
    swarm: InfoHash,
    keys: &TicketKeys,
    peer_id: PeerId,
) -> Result<(), String> {
    let ticket = SignedTicket::from_bytes(bytes).map_err(|e| e.to_string())?;
    keys.verify(&ticket, unix_now(), swarm, peer_id)
        .map(|_| ())
        .map_err(|e| e.to_string())
}
