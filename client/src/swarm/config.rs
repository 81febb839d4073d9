//! The numbers that steer a swarm, each with its reason.

use std::time::Duration;

/// Tuning of one [`Swarm`](super::Swarm).
///
/// # Defaults
/// See the constant named beside each field.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Most bytes asked for in one request from our own nodes; strangers get [`STRANGER_BLOCK`].
    pub block_length: u32,
    /// Pieces in front of a reader that are picked in order, before rarest first takes over.
    pub window_pieces: u32,
    /// Peers served at the same moment; the others wait in the queue.
    pub upload_slots: usize,
    /// Blocks handed to one peer's connection and not yet written to its socket.
    pub blocks_in_socket: usize,
    /// Bytes of pieces being assembled in memory, over all peers.
    pub in_flight_cap: u64,
    /// How much a peer may have outstanding, in time at the rate it delivers.
    pub pipeline_time: Duration,
    /// A peer that owes blocks and sends nothing for this long is dropped.
    pub snub_timeout: Duration,
    /// Requests of one peer that wait in our queue; more than these are a misbehaviour.
    pub request_queue: usize,
}

/// Longest request between our own nodes: on a link of 1 Gbit/s it takes two milliseconds, and each
/// message between the tasks of a host moves 16 of BitTorrent's blocks. Four times as much took as much
/// CPU, and more memory.
pub const OWN_BLOCK: u32 = 256 * 1024;
/// Request size between our own nodes on a slow link: a cancelled request wastes little.
pub(super) const SLOW_BLOCK: u32 = 64 * 1024;
/// A request asks for what the peer delivers within this, from [`SLOW_BLOCK`] to [`OWN_BLOCK`].
pub(super) const REQUEST_TIME: Duration = Duration::from_millis(10);
/// Request size towards other clients (BEP 3: larger requests may close the connection).
pub const STRANGER_BLOCK: u32 = 16 * 1024;
/// Simulated: 8 to 32 pieces cost 2 % of the makespan when the origin super-seeds.
const WINDOW_PIECES: u32 = 16;
/// Few, so that a piece leaves whole before the next one starts; enough to fill the uplink
/// although a connection that was idle starts slowly again (RFC 5681 section 4.1). Measured
/// with 20 nodes on 50 Mbit/s: 3 slots 1.51 of the bound, 6 slots 1.37, 12 slots 1.88.
const UPLOAD_SLOTS: usize = 6;
/// Two blocks: one being written, one ready.
const BLOCKS_IN_SOCKET: usize = 2;
/// Bounds the memory of one download.
const IN_FLIGHT_CAP: u64 = 64 * 1024 * 1024;
/// Round trip and service jitter that a pipeline has to cover.
const PIPELINE_TIME: Duration = Duration::from_millis(150);
/// Long enough for a queue of other peers at a slow uploader, short enough to free the pipeline.
const SNUB_TIMEOUT: Duration = Duration::from_secs(20);
/// As BEP 10's `reqq`: what we announce and enforce.
pub const REQUEST_QUEUE: usize = 2048;

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            block_length: OWN_BLOCK,
            window_pieces: WINDOW_PIECES,
            upload_slots: UPLOAD_SLOTS,
            blocks_in_socket: BLOCKS_IN_SOCKET,
            in_flight_cap: IN_FLIGHT_CAP,
            pipeline_time: PIPELINE_TIME,
            snub_timeout: SNUB_TIMEOUT,
            request_queue: REQUEST_QUEUE,
        }
    }
}
