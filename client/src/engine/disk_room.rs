//! Writing to a disk that is full although the quota is not.

use std::io;
use std::time::Duration;

/// Bytes that a full disk is to have free again: a few of them would be full again at once.
const FREED_AT_ONCE: u64 = 64 * 1024 * 1024;
/// What was evicted is free when those that have it open have closed it.
const FREEING_INTERVAL: Duration = Duration::from_millis(100);
const FREEING_ATTEMPTS: u32 = 20;

/// What can make room on a disk.
pub(crate) trait DiskRoom: std::fmt::Debug + Send + Sync {
    /// Evicts layers that are not used. Returns whether any was. Blocks.
    fn free_disk(&self, bytes: u64) -> bool;
}

/// Writes `length` bytes. When the disk is full, layers that are not used make room. Blocks.
pub(crate) fn write_with_room(
    room: &dyn DiskRoom,
    length: usize,
    write: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    let mut written = write();
    for attempt in 0..FREEING_ATTEMPTS {
        match &written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            _ => return written,
        }
        if attempt == 0 && !room.free_disk(FREED_AT_ONCE.max(length as u64)) {
            return written;
        }
        std::thread::sleep(FREEING_INTERVAL);
        written = write();
    }
    written
}
