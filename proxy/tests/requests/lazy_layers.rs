//! Layers that snapshotters read here and there while they arrive: first the table of contents,
//! which stands at the end, then the files that a program opens.

mod estargz;
mod zstd_chunked;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::DigestHasher;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::fakes::{DEADLINE, patterned};
use crate::stack::{LOGIN, Scripted, Stack, begin, path_of, withholding};

/// What the registry sends at once.
const ARRIVED: usize = 4 << 20;
/// Parts that are read of what has arrived, of what has not, and of the whole.
const READS: usize = 12;

/// Slower than any program reads, but the layer does arrive.
const TRICKLE: usize = 64 << 10;
const TRICKLE_PAUSE: Duration = Duration::from_millis(500);

/// A part of a file, as the layer's table of contents names it.
struct Part {
    /// Where it stands in the layer, compressed.
    range: Range<usize>,
    /// Its bytes when decompressed; more may follow in the range.
    size: usize,
    digest: String,
}

/// A layer's format.
trait LazyFormat {
    /// A layer of these files.
    fn layer(&self, files: &[Vec<u8>]) -> Vec<u8>;
    /// Finds all parts of all files as snapshotters do, with two or three ranges.
    fn contents<'a>(&'a self, reader: &'a Reader<'_>) -> BoxFuture<'a, Vec<Part>>;
    fn decompressed(&self, bytes: &[u8]) -> Vec<u8>;
}

/// Asks for ranges of the layer.
struct Reader<'a> {
    stack: &'a Stack,
    layer: &'a [u8],
    path: String,
}

impl Reader<'_> {
    async fn range(&self, range: Range<usize>) -> Vec<u8> {
        let fields = format!("{LOGIN}Range: bytes={}-{}\r\n", range.start, range.end - 1);
        let asking = self.stack.ask("GET", &self.path, &fields, b"");
        let answer = tokio::time::timeout(DEADLINE, asking).await;
        let answer = answer.expect("a range waits for its own pieces only");
        assert_eq!(answer.status(), 206, "{range:?}");
        assert!(answer.body == self.layer[range.clone()], "{range:?}");
        answer.body
    }

    async fn part(&self, format: &impl LazyFormat, part: &Part) {
        let bytes = format.decompressed(&self.range(part.range.clone()).await);
        let digest = DigestHasher::sha256_of(&bytes[..part.size]).to_string();
        assert_eq!(digest, part.digest);
    }
}

/// [`READS`] of the parts within `range`, evenly spread.
fn spread(parts: &[Part], range: Range<usize>) -> Vec<&Part> {
    let within: Vec<_> = parts
        .iter()
        .filter(|part| range.start <= part.range.start && part.range.end <= range.end)
        .collect();
    assert!(within.len() >= READS, "{} parts in {range:?}", within.len());
    within
        .iter()
        .copied()
        .step_by(within.len() / READS)
        .take(READS)
        .collect()
}

/// Ranges that the registry was asked for, but for the single bytes of authorization.
fn ranges_asked(registry: &Scripted) -> usize {
    let seen = registry.seen();
    let ranges = seen.iter().filter_map(|parts| parts.headers.get("range"));
    ranges.filter(|range| *range != "bytes=0-0").count()
}

async fn is_read_lazily(format: impl LazyFormat) {
    let bytes = patterned(14 << 20);
    let mut rest = bytes.as_slice();
    let mut files = Vec::new();
    for number in 0.. {
        // 100 to 320 KiB: several files a piece, and files across pieces.
        let size = 100_000 + number % 23 * 10_007;
        let Some((file, after)) = rest.split_at_checked(size) else {
            break;
        };
        files.push(file.to_vec());
        rest = after;
    }
    let layer = Arc::new(format.layer(&files));
    let (release, up_to) = watch::channel(ARRIVED);
    let registry = withholding(&layer, &up_to).await;
    let stack = Stack::before(registry.addr).await;
    let (_, mut whole) = begin(&stack, &path_of(&layer)).await;
    let mut body = vec![0; ARRIVED / 2];
    whole.read_exact(&mut body).await.unwrap();
    let reader = Reader {
        stack: &stack,
        layer: &layer,
        path: path_of(&layer),
    };

    // The layer keeps arriving, but its second half does not while this takes.
    let half = layer.len() / 2;
    let trickling = async {
        for up_to in (ARRIVED..half).step_by(TRICKLE) {
            release.send(up_to).unwrap();
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = async {
        let parts = format.contents(&reader).await;
        let before = ranges_asked(&registry);
        for part in spread(&parts, 0..ARRIVED / 2) {
            reader.part(&format, part).await;
        }
        let here = ranges_asked(&registry);
        assert_eq!(here, before, "what is here is not asked for");
        for part in spread(&parts, half..layer.len()) {
            reader.part(&format, part).await;
        }
        let ahead = ranges_asked(&registry) - here;
        assert_eq!(ahead, READS, "each once, and nothing else");
        parts
    };
    let parts = tokio::select! {
        parts = tokio::time::timeout(DEADLINE, reading) => parts,
        () = trickling => unreachable!("it never ends"),
    };
    let parts = parts.expect("a range does not wait for what stands before it");

    release.send(layer.len()).unwrap();
    whole.read_to_end(&mut body).await.unwrap();
    assert!(body == *layer);
    let before = ranges_asked(&registry);
    for part in spread(&parts, 0..layer.len()) {
        reader.part(&format, part).await;
    }
    assert_eq!(ranges_asked(&registry), before, "from here on all is here");
    assert_eq!(registry.whole_gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estargz_layer_is_read_while_the_registry_withholds_most_of_it() {
    is_read_lazily(estargz::Estargz).boxed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zstd_chunked_layer_is_read_while_the_registry_withholds_most_of_it() {
    is_read_lazily(zstd_chunked::ZstdChunked).boxed().await;
}

/// estargz, zstd:chunked: snapshotters read a layer here and there while it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn small_ranges_are_answered_while_the_layer_arrives() {
    const RANGE: usize = 64 << 10;
    let blob = Arc::new(patterned(16 << 20));
    let (release, up_to) = watch::channel(4 << 20);
    let registry = withholding(&blob, &up_to).await;
    let stack = Stack::before(registry.addr).await;
    let path = path_of(&blob);
    let (_, whole) = begin(&stack, &path).await;
    let mut state = 7_usize;
    for number in 0..60 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // The last quarter is asked for before it has arrived: it waits, or is fetched.
        let limit = if number < 40 {
            3 << 20
        } else {
            blob.len() - RANGE
        };
        let first = state % limit;
        let fields = format!("{LOGIN}Range: bytes={first}-{}\r\n", first + RANGE - 1);
        let asking = stack.ask("GET", &path, &fields, b"");
        let answer = tokio::time::timeout(DEADLINE, asking).await;
        let answer = answer.expect("a range waits for its own pieces only");
        assert_eq!(answer.status(), 206);
        assert!(answer.body == blob[first..first + RANGE], "range {number}");
        if number == 39 {
            release.send(blob.len()).unwrap();
        }
    }
    drop(whole);
    assert_eq!(registry.whole_gets(), 1);
}
