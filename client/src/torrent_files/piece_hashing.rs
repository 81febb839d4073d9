//! Pieces hashed on all cores.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use flotilla_torrents::{FileLayout, Geometry, PieceHash, PieceHasher, PieceIndex};

use super::Watch;

/// Bytes read at once: they are still in the core's own cache when they are hashed.
const READ_BYTES: usize = 256 * 1024;

/// Where the bytes of a file come from.
pub(super) enum Source {
    /// A regular file of at least the bytes that are asked for.
    File(PathBuf),
    /// Padding (BEP 47).
    Zeros,
    /// Nowhere: it is known not to be there.
    Absent,
}

/// A file that could not be read.
pub(super) struct ReadFailure {
    /// Its number.
    pub(super) file: usize,
    /// Why. `UnexpectedEof` when it is too short, `NotFound` when it is absent.
    pub(super) error: Error,
}

/// Reads pieces that may span files. One per thread: it keeps the last file open.
pub(super) struct PieceReader<'a> {
    layout: &'a FileLayout,
    sources: &'a [Source],
    open: Option<(usize, File)>,
    buffer: Vec<u8>,
}

impl<'a> PieceReader<'a> {
    pub(super) fn new(layout: &'a FileLayout, sources: &'a [Source]) -> Self {
        Self {
            layout,
            sources,
            open: None,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// The hash of these bytes of the whole.
    pub(super) fn hash(&mut self, range: Range<u64>) -> Result<PieceHash, ReadFailure> {
        let mut hasher = PieceHasher::default();
        for span in self.layout.spans(range) {
            let failed = |error| ReadFailure {
                file: span.file,
                error,
            };
            self.update(&mut hasher, span.file, span.offset, span.length)
                .map_err(failed)?;
        }
        Ok(hasher.finish())
    }

    fn update(
        &mut self,
        hasher: &mut PieceHasher,
        number: usize,
        mut offset: u64,
        mut left: u64,
    ) -> Result<(), Error> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = match self.sources.get(number) {
                Some(Source::File(path)) => Some((number, File::open(path)?)),
                Some(Source::Zeros) => None,
                Some(Source::Absent) | None => return Err(ErrorKind::NotFound.into()),
            };
            if self.open.is_none() {
                self.buffer.fill(0);
            }
        }
        while left > 0 {
            let count = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
            let part = self.buffer.get_mut(..count).unwrap_or_default();
            if let Some((_, file)) = &self.open {
                file.read_exact_at(part, offset)?;
            }
            hasher.update(part);
            offset += part.len() as u64;
            left -= part.len() as u64;
        }
        Ok(())
    }
}

/// Runs a worker on each core; each takes the next piece that none has. Gives what they made of the
/// pieces, in order, or nothing when it was stopped.
///
/// # Errors
/// The first error of a worker; the others stop after their pieces.
pub(super) fn on_all_cores<T: Send, E: Send, W>(
    geometry: &Geometry,
    watch: Watch<'_>,
    worker: impl Fn() -> W + Sync,
) -> Result<Option<Vec<T>>, E>
where
    W: FnMut(PieceIndex) -> Result<T, E>,
{
    let next = AtomicU32::new(0);
    let failed = AtomicBool::new(false);
    let run = || {
        let mut work = worker();
        let mut done = Vec::new();
        while !watch.stop.is_cancelled() && !failed.load(Ordering::Relaxed) {
            let Some(piece) = geometry.piece(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let result = work(piece).inspect_err(|_| failed.store(true, Ordering::Relaxed));
            done.push((piece, result?));
            (watch.advanced)(u64::from(geometry.piece_size(piece)));
        }
        Ok(done)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let all: Result<Vec<_>, E> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(run)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let mut pieces: Vec<_> = all?.into_iter().flatten().collect();
    let complete = pieces.len() as u64 == u64::from(geometry.piece_count());
    pieces.sort_unstable_by_key(|(piece, _)| *piece);
    Ok(complete.then(|| pieces.into_iter().map(|(_, made)| made).collect()))
}
