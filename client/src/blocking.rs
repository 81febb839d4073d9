//! Work that blocks, away from the reactor.

use tokio::sync::Semaphore;

/// Pieces that are read from the disk at the same moment. Each read has a thread and a piece in memory, and
/// a burst of hundreds of readers would have as many; more at once make no disk faster.
const MAX_READS: usize = 16;
static READS: Semaphore = Semaphore::const_new(MAX_READS);

/// Runs `work` on a thread that may block. A panic in it continues in the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// As [`blocking`], for reads from the disk: only so many at once.
///
/// # Errors
/// As `read`, or it panicked.
pub(crate) async fn blocking_read<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    // The semaphore is never closed.
    let turn = READS.acquire().await.map_err(std::io::Error::other)?;
    let reading = tokio::task::spawn_blocking(move || {
        // Until the read is over, also when its reader has left.
        let _turn = turn;
        read()
    });
    reading.await?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_burst_of_readers_reads_a_few_at_a_time() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let reads = (0..200).map(|_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            blocking_read(move || {
                let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(running, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        for read in futures_util::future::join_all(reads).await {
            read.unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!(most > 1 && most <= MAX_READS, "{most} at once");
    }
}
