//! The task of a web seed: it fetches the blocks that the swarm requests.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, FileSpan};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use tokio::sync::mpsc;

use super::{WebSeed, WebSeedError};
use crate::engine::input::Input;
use crate::peers::io::Outgoing;
use crate::swarm::PeerKey;

/// Requests that follow each other become one range of at most this.
const MAX_RANGE: u64 = 4 * 1024 * 1024;
/// Tries of one range, and the pause before the second one, which doubles.
const TRIES: u32 = 4;
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Padding files are not on the server (BEP 47).
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

impl WebSeed {
    /// Answers the swarm's requests until it is dropped by it, or is of no use.
    pub(crate) async fn run(
        self,
        key: PeerKey,
        mut outgoing: mpsc::Receiver<Outgoing>,
        limit: RateLimiter,
        swarm: mpsc::Sender<Input>,
    ) {
        for greeting in [Message::HaveAll, Message::Unchoke] {
            let _ = swarm.send(Input::Message(key, greeting)).await;
        }
        let mut queue = VecDeque::new();
        while let Some(first) = outgoing.recv().await {
            take(&mut queue, &first);
            while let Ok(next) = outgoing.try_recv() {
                take(&mut queue, &next);
            }
            while let Some(blocks) = self.next_run(&mut queue) {
                if let Err(error) = self.fetch(key, &blocks, &limit, &swarm).await {
                    tracing::warn!(web_seed = self.origin(), %error, "web seed dropped");
                    let closed = Input::Closed {
                        peer: key,
                        misbehaved: false,
                    };
                    let _ = swarm.send(closed).await;
                    return;
                }
                while let Ok(next) = outgoing.try_recv() {
                    take(&mut queue, &next);
                }
            }
        }
    }

    /// The requests at the front that follow each other without a gap.
    fn next_run(&self, queue: &mut VecDeque<Wanted>) -> Option<VecDeque<Wanted>> {
        let mut run = VecDeque::from([queue.pop_front()?]);
        let mut length = run.front().map_or(0, |wanted| wanted.length());
        while let (Some(last), Some(next)) = (run.back(), queue.front()) {
            let end = self.offset(last).saturating_add(last.length());
            length = length.saturating_add(next.length());
            if self.offset(next) != end || length > MAX_RANGE {
                break;
            }
            run.extend(queue.pop_front());
        }
        Some(run)
    }

    fn offset(&self, wanted: &Wanted) -> u64 {
        let piece = u64::from(wanted.index) * u64::from(self.torrent.geometry().piece_length());
        piece.saturating_add(wanted.begin.into())
    }

    /// Fetches a run of blocks and hands each over as soon as it is here.
    async fn fetch(
        &self,
        key: PeerKey,
        blocks: &VecDeque<Wanted>,
        limit: &RateLimiter,
        swarm: &mpsc::Sender<Input>,
    ) -> Result<(), WebSeedError> {
        let (Some(first), Some(last)) = (blocks.front(), blocks.back()) else {
            return Ok(());
        };
        let end = self.offset(last).saturating_add(last.length());
        let mut delivery = Delivery {
            key,
            blocks: blocks.clone(),
            position: self.offset(first),
            received: BytesMut::new(),
            limit,
            swarm,
        };
        let layout = self.torrent.layout();
        let (mut tries, mut pause) = (0, MIN_RETRY_INTERVAL);
        while delivery.position < end {
            let before = delivery.position;
            let Some(span) = layout.spans(before..end).next() else {
                return Ok(());
            };
            let fetched = self.fetch_span(span, &mut delivery).await;
            if delivery.position > before {
                (tries, pause) = (0, MIN_RETRY_INTERVAL);
            }
            if let Err(error) = fetched {
                tries += 1;
                if tries >= TRIES || !error.is_passing() {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
        Ok(())
    }

    /// Fetches the part of one file.
    async fn fetch_span(
        &self,
        span: FileSpan,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), WebSeedError> {
        let Some(file) = self.torrent.files().get(span.file) else {
            return Ok(());
        };
        let mut left = span.length;
        if file.is_padding() {
            while left > 0 {
                let part = ZEROS.get(..usize::try_from(left).unwrap_or(ZEROS.len()));
                let part = part.unwrap_or(&ZEROS);
                delivery.arrived(part).await;
                left -= part.len() as u64;
            }
            return Ok(());
        }
        let last = span.offset.saturating_add(span.length).saturating_sub(1);
        let range = format!("{}-{last}", span.offset);
        let request = self.http.get(self.address(file));
        let request = request
            .header(RANGE, format!("bytes={range}"))
            .header(ACCEPT_ENCODING, "identity");
        let mut reply = request.send().await.map_err(reqwest::Error::without_url)?;
        if reply.status() != StatusCode::PARTIAL_CONTENT {
            return Err(WebSeedError::Status {
                status: reply.status(),
            });
        }
        let expected = format!("bytes {range}/{}", file.length());
        let found = reply.headers().get(CONTENT_RANGE);
        let found = found.and_then(|value| value.to_str().ok()).unwrap_or("");
        if found != expected && found != format!("bytes {range}/*") {
            let found = found.chars().take(80).collect();
            return Err(WebSeedError::Range { found, expected });
        }
        while left > 0 {
            let chunk = reply.chunk().await.map_err(reqwest::Error::without_url)?;
            let Some(mut chunk) = chunk else {
                return Err(WebSeedError::Short(left));
            };
            let usable = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let part: Bytes = chunk.copy_to_bytes(usable);
            delivery.arrived(&part).await;
            left -= part.len() as u64;
        }
        Ok(())
    }
}

/// The bytes of a run on their way to the swarm.
struct Delivery<'a> {
    key: PeerKey,
    /// Those that are not here yet.
    blocks: VecDeque<Wanted>,
    /// Of the next byte, in the whole.
    position: u64,
    received: BytesMut,
    limit: &'a RateLimiter,
    swarm: &'a mpsc::Sender<Input>,
}

impl Delivery<'_> {
    async fn arrived(&mut self, data: &[u8]) {
        self.limit.acquire(data.len()).await;
        self.position = self.position.saturating_add(data.len() as u64);
        self.received.extend_from_slice(data);
        while let Some(wanted) = self.blocks.front()
            && self.received.len() as u64 >= wanted.length()
        {
            let length = usize::try_from(wanted.length()).unwrap_or(usize::MAX);
            let message = Message::Piece {
                index: wanted.index,
                begin: wanted.begin,
                data: self.received.split_to(length).freeze(),
            };
            self.blocks.pop_front();
            let _ = self.swarm.send(Input::Message(self.key, message)).await;
        }
    }
}

/// A request of the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    index: u32,
    begin: u32,
    length: u32,
}

impl Wanted {
    fn length(&self) -> u64 {
        self.length.into()
    }
}

fn take(queue: &mut VecDeque<Wanted>, outgoing: &Outgoing) {
    match outgoing {
        Outgoing::Message(Message::Request {
            index,
            begin,
            length,
        }) => queue.push_back(Wanted {
            index: *index,
            begin: *begin,
            length: *length,
        }),
        Outgoing::Message(Message::Cancel {
            index,
            begin,
            length,
        }) => {
            let cancelled = (*index, *begin, *length);
            queue.retain(|wanted| (wanted.index, wanted.begin, wanted.length) != cancelled);
        }
        // Other messages mean nothing to a web server, and it requests no blocks.
        Outgoing::Message(_) | Outgoing::Block(Block { .. }) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flotilla_torrents::{Geometry, Metainfo, PieceHash};

    use super::*;

    #[test]
    fn requests_that_follow_each_other_are_one_range() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let geometry = Geometry::new(40_000, 1 << 14).unwrap();
        let hashes = vec![PieceHash::of(b""); 3];
        let torrent = Metainfo::new("f", geometry, hashes, false, &[], &[]).unwrap();
        let seed = WebSeed::new(Arc::new(torrent), "http://host/").unwrap();
        let wanted = |index, begin, length| Wanted {
            index,
            begin,
            length,
        };
        let (a, b, c) = (
            wanted(0, 0, 16_384),
            wanted(1, 0, 16_384),
            wanted(2, 1, 100),
        );
        let mut queue = VecDeque::from([a, b, c]);
        assert_eq!(seed.next_run(&mut queue).unwrap(), [a, b]);
        assert_eq!(seed.next_run(&mut queue).unwrap(), [c]);
        assert_eq!(seed.next_run(&mut queue), None);
    }
}
