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
    /// Bytes handed to connections and not yet written: what leaves within this time, ...
    pub socket_time: Duration,
    /// ... at least these, ...
    pub min_in_sockets: u64,
    /// ... and at most these.
    pub max_in_sockets: u64,
    /// Bytes of pieces being assembled in memory, over all peers.
    pub in_flight_cap: u64,
    /// How much a peer may have outstanding: what it delivers in a round trip and this time, ...
    pub pipeline_time: Duration,
    /// ... at least these bytes, ...
    pub min_pipeline: u64,
    /// ... and these before it has delivered anything.
    pub first_pipeline: u64,
    /// How much all peers together may have outstanding: what they deliver in this time, ...
    pub backlog_time: Duration,
    /// ... at least these bytes.
    pub min_backlog: u64,
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
/// Few, so that a piece leaves whole before the next one begins, and that what is chosen next can still
/// be what has become rare.
const SOCKET_TIME: Duration = Duration::from_millis(50);
/// One piece being written, one ready: enough to fill an uplink although a connection that was idle
/// starts slowly again (RFC 5681 section 4.1).
const MIN_IN_SOCKETS: u64 = 128 * 1024;
/// Bounds the memory of the blocks that are read and not yet written.
const MAX_IN_SOCKETS: u64 = 8 * 1024 * 1024;
/// What comes later than this can be asked of a peer that is free by then, and several peers that send
/// at once do not fill the downlink's queues.
const BACKLOG_TIME: Duration = Duration::from_millis(1000);
/// Before there is a rate to go by.
const MIN_BACKLOG: u64 = 1024 * 1024;
/// Bounds the memory of one download.
const IN_FLIGHT_CAP: u64 = 64 * 1024 * 1024;
/// Service jitter that a pipeline has to cover beyond the round trip. It also lets the pipeline grow from
/// one round trip to the next until the peer delivers no faster.
const PIPELINE_TIME: Duration = Duration::from_millis(150);
/// A block under way and the next one.
const MIN_PIPELINE: u64 = 128 * 1024;
/// What a peer is asked for at once when nothing is known of it.
const FIRST_PIPELINE: u64 = 512 * 1024;
/// Long enough for a queue of other peers at a slow uploader, short enough to free the pipeline.
const SNUB_TIMEOUT: Duration = Duration::from_secs(20);
/// As BEP 10's `reqq`: what we announce and enforce.
pub const REQUEST_QUEUE: usize = 2048;

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            block_length: OWN_BLOCK,
            window_pieces: WINDOW_PIECES,
            socket_time: SOCKET_TIME,
            min_in_sockets: MIN_IN_SOCKETS,
            max_in_sockets: MAX_IN_SOCKETS,
            in_flight_cap: IN_FLIGHT_CAP,
            pipeline_time: PIPELINE_TIME,
            min_pipeline: MIN_PIPELINE,
            first_pipeline: FIRST_PIPELINE,
            backlog_time: BACKLOG_TIME,
            min_backlog: MIN_BACKLOG,
            snub_timeout: SNUB_TIMEOUT,
            request_queue: REQUEST_QUEUE,
        }
    }
}
