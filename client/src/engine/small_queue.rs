//! Small content on its way to the disk; no caller waits for it.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};

use crate::store::small_content::SmallContent;

/// Bytes that may wait. A disk that is slower than the network keeps less, and delays no caller.
const MAX_WAITING: usize = 64 * 1024 * 1024;

/// What waits, for one writer at a time.
#[derive(Debug, Default)]
pub(crate) struct SmallQueue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    contents: VecDeque<(SmallContent, String)>,
    bytes: usize,
    has_writer: bool,
}

impl SmallQueue {
    /// `origin`: scheme, host and port of its source. Returns whether the caller has to start a
    /// writer, which takes the [`next`](Self::next) one until the queue is empty.
    pub(crate) fn push(&self, small: SmallContent, origin: String) -> bool {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_add(small.bytes().len());
        if bytes > MAX_WAITING {
            tracing::debug!(content = %small.content(), "small content not kept, the disk is slow");
            return false;
        }
        waiting.bytes = bytes;
        waiting.contents.push_back((small, origin));
        !std::mem::replace(&mut waiting.has_writer, true)
    }

    /// What to write now; `None`: this writer has ended.
    pub(crate) fn next(&self) -> Option<(SmallContent, String)> {
        let mut waiting = self.lock();
        let next = waiting.contents.pop_front();
        match &next {
            Some((small, _)) => {
                waiting.bytes = waiting.bytes.saturating_sub(small.bytes().len());
            }
            None => waiting.has_writer = false,
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_torrents::{ContentId, DigestHasher, Geometry};

    use super::*;

    fn small(bytes: Vec<u8>) -> SmallContent {
        let content = ContentId::blob(&DigestHasher::sha256_of(&bytes));
        let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
        SmallContent::verify(content, geometry, Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn one_writer_at_a_time_takes_all() {
        let queue = SmallQueue::default();
        let push = |n| queue.push(small(vec![n; 10]), "http://h".to_owned());
        assert!(push(1));
        assert!(!push(2), "the first writer takes this one too");
        for n in [1, 2] {
            assert_eq!(queue.next().unwrap().0.bytes()[0], n);
        }
        assert!(queue.next().is_none());
        assert!(push(3), "the writer has ended");
    }

    #[test]
    fn a_slow_disk_fills_no_memory() {
        let queue = SmallQueue::default();
        let large = small(vec![1; MAX_WAITING]);
        queue.push(large.clone(), String::new());
        queue.push(small(vec![2]), String::new());
        assert_eq!(queue.next().unwrap().0.bytes().len(), MAX_WAITING);
        assert!(queue.next().is_none());
        assert!(queue.push(large, String::new()), "there is room again");
    }
}
