//! Straight from the source into a part file: continues where it was, starts over when the content
//! has changed, asks again when the connection breaks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_client::ByteRange;
use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::{redacted, root_cause};
use http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

use super::min_rate::{MinRate, RateWatch};
use super::source_client::{SourceClient, SourceFailure, SourceReply, Wanted};
use crate::error::GetError;
use crate::events::{GetEvent, Reporter};
use crate::files::part_file::{PartContent, PartFile};
use crate::stop::Stop;

/// First pause before the source is asked again; each one is twice the one before.
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// A source that changes its content more often than this while it is read is given up.
const MAX_RESTARTS: u32 = 5;
/// Bytes that are written together: a write costs a turn of another thread.
const WRITE: usize = 256 * 1024;
/// What is lost at most when the host loses power, besides what is on its way: whichever of
/// these comes first.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// One content at its source.
pub(crate) struct FromSource<'a> {
    pub(crate) client: &'a SourceClient,
    pub(crate) url: &'a Url,
    /// Names the content and the range in the record.
    pub(crate) name: String,
    pub(crate) range: Option<ByteRange>,
    /// Where the part file is.
    pub(crate) dir: PathBuf,
    pub(crate) limit: RateLimiter,
    pub(crate) min_rate: Option<MinRate>,
    /// Whether the whole is compared with a digest at the end: then bytes without validator may
    /// be put together.
    pub(crate) is_checked: bool,
    pub(crate) reporter: &'a Reporter,
    pub(crate) stop: &'a Stop,
}

/// Why an attempt ended without the whole.
enum Attempt {
    Passing(String, Option<Duration>),
    /// What is here is of other content, or cannot be added to.
    Outdated(&'static str),
    Final(GetError),
}

impl From<GetError> for Attempt {
    fn from(error: GetError) -> Self {
        Self::Final(error)
    }
}

impl From<SourceFailure> for Attempt {
    fn from(failure: SourceFailure) -> Self {
        match failure {
            SourceFailure::Passing(reason, after) => Self::Passing(reason, after),
            SourceFailure::Final(error) => Self::Final(error),
        }
    }
}

impl FromSource<'_> {
    /// What an earlier run, or the swarm, left to go on with.
    pub(crate) async fn left_over(&self) -> Option<Arc<PartFile>> {
        let (dir, name) = (self.dir.clone(), self.name.clone());
        let opened = tokio::task::spawn_blocking(move || PartFile::open(&dir, &name));
        opened.await.ok().flatten().map(Arc::new)
    }

    /// Brings the whole. `part`: what there is to go on with. Also says whether the file was put
    /// together from several answers.
    pub(crate) async fn fetch(
        &self,
        mut part: Option<Arc<PartFile>>,
    ) -> Result<(Arc<PartFile>, bool), GetError> {
        if part.as_ref().is_some_and(|part| !self.may_go_on(part)) {
            self.reporter.restarted(
                "the source names neither a strong ETag nor Last-Modified, and there is no --digest to check a resumed file with",
            );
            part = None;
        }
        let mut answers = u32::from(part.is_some());
        let (mut failures, mut restarts) = (0, 0);
        let mut furthest = part.as_ref().map_or(0, |part| part.held());
        loop {
            let outcome = self.attempt(&mut part).await;
            answers += 1;
            let held = part.as_ref().map_or(0, |part| part.held());
            // Progress starts the count anew: a source that drops each connection after a while
            // still delivers.
            failures = if held > furthest { 0 } else { failures + 1 };
            furthest = furthest.max(held);
            let (reason, after) = match (outcome, &part) {
                (Ok(()), Some(part)) => return Ok((Arc::clone(part), answers > 1)),
                (Ok(()), None) => ("the source answered nothing".to_owned(), None),
                (Err(Attempt::Final(error)), _) => return Err(error),
                (Err(Attempt::Passing(reason, after)), _) => {
                    if part.as_ref().is_some_and(|part| !self.may_go_on(part)) {
                        self.reporter.restarted(
                            "the connection broke, and the source names no validator to go on with",
                        );
                        (part, answers) = (None, 0);
                    }
                    (reason, after)
                }
                (Err(Attempt::Outdated(reason)), _) => {
                    self.reporter.restarted(reason);
                    (part, answers) = (None, 0);
                    restarts += 1;
                    if restarts > MAX_RESTARTS {
                        return Err(
                            self.fault(format!("fails {restarts} times in a row: {reason}"))
                        );
                    }
                    continue;
                }
            };
            if failures > self.client.retries() {
                return Err(self.fault(format!("does not deliver: {reason}")));
            }
            self.pause(failures, reason, after).await?;
        }
    }

    fn may_go_on(&self, part: &PartFile) -> bool {
        self.is_checked || part.content().validator.strong().is_some()
    }

    async fn pause(
        &self,
        failures: u32,
        reason: String,
        after: Option<Duration>,
    ) -> Result<(), GetError> {
        let factor = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let pause = after.unwrap_or(MIN_RETRY_INTERVAL.saturating_mul(factor));
        let pause = pause.min(MAX_RETRY_INTERVAL);
        self.reporter.tell(&GetEvent::Retrying {
            reason,
            seconds: pause.as_secs_f64(),
        });
        self.stop.or(tokio::time::sleep(pause)).await
    }

    /// One request, and its body as far as it comes.
    async fn attempt(&self, part: &mut Option<Arc<PartFile>>) -> Result<(), Attempt> {
        loop {
            let gap = match part {
                Some(part) => match part.first_gap() {
                    Some(gap) => Some(gap),
                    None => {
                        sync(part).await?;
                        return Ok(());
                    }
                },
                None => None,
            };
            let range = match (gap, self.range) {
                (Some((start, Some(end))), _) => Some(format!("bytes={start}-{}", end - 1)),
                (Some((start, None)), _) => Some(format!("bytes={start}-")),
                (None, Some(range)) => Some(format!("bytes={range}")),
                (None, None) => None,
            };
            let content = part.as_ref().map(|part| part.content());
            let if_range = content
                .as_ref()
                .and_then(|content| content.validator.strong());
            let wanted = Wanted {
                range: range.as_deref(),
                if_range,
            };
            let reply = self.stop.or(self.client.open(self.url, wanted)).await??;
            let (now, position) = match (&*part, gap) {
                (Some(old), Some((start, _))) => {
                    match self.continues(old, start, &reply)? {
                        Some(position) => (Arc::clone(old), position),
                        // 416 right after the last byte: there is nothing more.
                        None => continue,
                    }
                }
                _ => self.begins(&reply).await?,
            };
            *part = Some(Arc::clone(&now));
            self.read(&now, position, reply).await?;
        }
    }

    /// A new part file for the first answer; the position of its first byte.
    async fn begins(&self, reply: &SourceReply) -> Result<(Arc<PartFile>, u64), Attempt> {
        let outside = || GetError::Range {
            url: redacted(&reply.url),
            range: self.range.unwrap_or(ByteRange::From(0)),
            length: reply.total,
        };
        if reply.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(outside().into());
        }
        let wanted = match (self.range, reply.total) {
            (None, total) => (0, total),
            (Some(range), Some(total)) => {
                let bytes = range.of(total).ok_or_else(outside)?;
                (bytes.start, Some(bytes.end))
            }
            (Some(ByteRange::From(start)), None) => (start, None),
            (Some(ByteRange::Between(start, last)), None) => (start, Some(last.saturating_add(1))),
            (Some(ByteRange::Last(_)), None) => match reply.part {
                Some((start, end)) => (start, Some(end)),
                None => {
                    return Err(self
                        .fault("does not tell the length of the file".to_owned())
                        .into());
                }
            },
        };
        let position = match reply.part {
            Some((start, end))
                if start != wanted.0 || wanted.1.is_some_and(|wanted| end > wanted) =>
            {
                return Err(self
                    .fault("sends another range than asked for".to_owned())
                    .into());
            }
            Some((start, _)) => start,
            None => 0,
        };
        let content = PartContent {
            name: self.name.clone(),
            validator: reply.validator.clone(),
            start: wanted.0,
            end: wanted.1,
            total: reply.total,
        };
        let dir = self.dir.clone();
        let created = tokio::task::spawn_blocking(move || PartFile::create(&dir, content));
        let part = created
            .await
            .map_err(std::io::Error::other)
            .and_then(|part| part)
            .map_err(|error| GetError::io(&self.dir, error))?;
        Ok((Arc::new(part), position))
    }

    /// Whether `reply` brings what is missing from `start` on; the position of its first byte.
    fn continues(
        &self,
        part: &PartFile,
        start: u64,
        reply: &SourceReply,
    ) -> Result<Option<u64>, Attempt> {
        const CHANGED: &str = "the content at the source has changed";
        let content = part.content();
        let other_length = content
            .total
            .zip(reply.total)
            .is_some_and(|(old, new)| old != new);
        match (reply.status, reply.part) {
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                if content.end.is_none() && reply.total == Some(start) {
                    part.ends_at(start);
                    return Ok(None);
                }
                Err(Attempt::Outdated(CHANGED))
            }
            _ if other_length || !content.validator.agrees_with(&reply.validator) => {
                Err(Attempt::Outdated(CHANGED))
            }
            // All of it, though it is what it was.
            (StatusCode::OK, _) if part.held() == 0 => Ok(Some(0)),
            (StatusCode::OK, _) => Err(Attempt::Outdated("the source serves no ranges")),
            (_, Some((first, _))) if first == start => Ok(Some(first)),
            _ => Err(Attempt::Final(
                self.fault("sends another range than asked for".to_owned()),
            )),
        }
    }

    /// Writes the body, whose first byte is at `position`, until the gap that it fills is full.
    async fn read(
        &self,
        part: &Arc<PartFile>,
        mut position: u64,
        mut reply: SourceReply,
    ) -> Result<(), Attempt> {
        let Some((gap, end)) = part.first_gap() else {
            return Ok(());
        };
        let told_end = match reply.part {
            Some((_, end)) => Some(end),
            None => reply.total,
        };
        let mut writer = PartWriter::new(Arc::clone(part), gap);
        let mut watch = RateWatch::new(self.min_rate, position);
        let outcome = loop {
            if end.is_some_and(|end| position >= end) {
                break Ok(());
            }
            let came = tokio::select! {
                came = reply.body.chunk() => came,
                () = watch.due() => match watch.too_slow(position) {
                    Some(rate) => break Err(self.too_slow(rate).into()),
                    None => continue,
                },
                error = self.stop.reached() => break Err(error.into()),
            };
            match came {
                Ok(Some(bytes)) => {
                    if let Err(error) = self.stop.or(self.limit.acquire(bytes.len())).await {
                        break Err(error.into());
                    }
                    self.reporter.arrived_from_source(bytes.len() as u64);
                    let kept = within(bytes, position, gap, end);
                    position += kept.came;
                    if let Err(error) = writer.add(&kept.bytes).await {
                        break Err(error.into());
                    }
                    self.reporter
                        .progress(part.held() + writer.waiting(), part.wanted(), 0);
                }
                Ok(None) if told_end.or(end).is_none_or(|end| position == end) => {
                    break Ok(());
                }
                Ok(None) => {
                    let expected = told_end.or(end).unwrap_or_default();
                    break Err(Attempt::Passing(
                        format!("the connection ended at byte {position} of {expected}"),
                        None,
                    ));
                }
                Err(error) => {
                    let cause = root_cause(&error);
                    break Err(Attempt::Passing(
                        format!("the connection broke at byte {position}: {cause}"),
                        None,
                    ));
                }
            }
        };
        writer.finish().await?;
        outcome?;
        if end.is_none() {
            part.ends_at(position);
        }
        Ok(())
    }

    fn too_slow(&self, found: u64) -> GetError {
        GetError::TooSlow {
            url: redacted(self.url),
            found,
            least: self.min_rate.map_or(0, |least| least.rate),
        }
    }

    fn fault(&self, what: String) -> GetError {
        GetError::Source {
            url: redacted(self.url),
            what,
        }
    }
}

struct Kept {
    bytes: Bytes,
    /// All bytes up to the end of what is kept.
    came: u64,
}

/// What of `bytes`, the first of which is at `position`, lies from `start` on and before `end`.
fn within(mut bytes: Bytes, position: u64, start: u64, end: Option<u64>) -> Kept {
    if let Some(room) = end.map(|end| end.saturating_sub(position)) {
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
    }
    let came = bytes.len() as u64;
    let skipped = usize::try_from(start.saturating_sub(position)).unwrap_or(usize::MAX);
    let skipped = skipped.min(bytes.len());
    Kept {
        bytes: bytes.split_off(skipped),
        came,
    }
}

/// Writes in larger parts, and lets them become durable behind the download's back.
struct PartWriter {
    part: Arc<PartFile>,
    position: u64,
    buffer: BytesMut,
    unsynced: u64,
    synced: Instant,
    syncing: Option<JoinHandle<std::io::Result<()>>>,
}

impl PartWriter {
    fn new(part: Arc<PartFile>, position: u64) -> Self {
        Self {
            part,
            position,
            buffer: BytesMut::new(),
            unsynced: 0,
            synced: Instant::now(),
            syncing: None,
        }
    }

    fn waiting(&self) -> u64 {
        self.buffer.len() as u64
    }

    async fn add(&mut self, bytes: &[u8]) -> Result<(), GetError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE {
            self.write().await?;
        }
        let due = self.unsynced >= SYNC_BYTES || self.synced.elapsed() >= SYNC_INTERVAL;
        if due && self.unsynced + self.waiting() > 0 {
            self.write().await?;
            self.wait_for_sync().await?;
            let part = Arc::clone(&self.part);
            self.syncing = Some(tokio::task::spawn_blocking(move || part.sync()));
            self.unsynced = 0;
            self.synced = Instant::now();
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), GetError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.buffer.split().freeze();
        let (part, position) = (Arc::clone(&self.part), self.position);
        self.position += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        let written = tokio::task::spawn_blocking(move || part.write(position, &bytes));
        let written = written.await.map_err(std::io::Error::other);
        written
            .and_then(|written| written)
            .map_err(|error| GetError::io(&self.part.path(), error))
    }

    async fn wait_for_sync(&mut self) -> Result<(), GetError> {
        let Some(syncing) = self.syncing.take() else {
            return Ok(());
        };
        let synced = syncing.await.map_err(std::io::Error::other);
        synced
            .and_then(|synced| synced)
            .map_err(|error| GetError::io(&self.part.path(), error))
    }

    async fn finish(mut self) -> Result<(), GetError> {
        self.write().await?;
        self.wait_for_sync().await?;
        sync(&self.part).await
    }
}

async fn sync(part: &Arc<PartFile>) -> Result<(), GetError> {
    let synced = Arc::clone(part);
    let synced = tokio::task::spawn_blocking(move || synced.sync()).await;
    synced
        .map_err(std::io::Error::other)
        .and_then(|synced| synced)
        .map_err(|error| GetError::io(&part.path(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_bytes_are_kept() {
        let kept = |position, start, end| {
            let kept = within(Bytes::from_static(b"0123456789"), position, start, end);
            (String::from_utf8(kept.bytes.to_vec()).unwrap(), kept.came)
        };
        assert_eq!(kept(0, 0, None), ("0123456789".to_owned(), 10));
        assert_eq!(kept(0, 4, Some(6)), ("45".to_owned(), 6));
        assert_eq!(kept(100, 100, Some(103)), ("012".to_owned(), 3));
        assert_eq!(kept(0, 50, None), (String::new(), 10));
    }
}
