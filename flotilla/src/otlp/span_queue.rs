//! Ended spans on their way to the collector: in batches, behind a bounded queue that never blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Spans that wait; about 1 KiB each. The next ones are dropped.
const MAX_QUEUED: usize = 8192;
/// Spans of one request to the collector.
const MAX_BATCH: usize = 512;
/// How long a batch waits for more spans.
const GATHER_TIMEOUT: Duration = Duration::from_secs(1);
/// A batch that is not taken by then is dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(6);
/// Between two log lines about dropped spans.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Takes spans as they end.
#[derive(Debug)]
pub(super) struct SpanQueue {
    waiting: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

/// The task behind the queue.
pub(super) struct Exporting {
    task: JoinHandle<()>,
    closing: CancellationToken,
    dropped: Arc<AtomicU64>,
}

/// Starts a task that gives spans to `exporter`.
pub(super) fn start(exporter: impl SpanExporter + 'static) -> (SpanQueue, Exporting) {
    let (waiting, spans) = mpsc::channel(MAX_QUEUED);
    let dropped = Arc::new(AtomicU64::new(0));
    let closing = CancellationToken::new();
    let exporting = export(spans, exporter, Arc::clone(&dropped), closing.clone());
    let exporting = Exporting {
        task: tokio::spawn(exporting),
        closing,
        dropped: Arc::clone(&dropped),
    };
    (SpanQueue { waiting, dropped }, exporting)
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.waiting.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Only [`Exporting::finish`] flushes, without blocking a thread.
    fn force_flush(&self) -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure(
            "not flushed from here".to_owned(),
        ))
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    /// Sends what waits, and gives up after `limit`.
    pub(super) async fn finish(mut self, limit: Duration) {
        self.closing.cancel();
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("last spans dropped: the collector did not accept them in time");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "spans dropped: the collector did not accept them");
        }
    }
}

async fn export(
    mut spans: mpsc::Receiver<SpanData>,
    exporter: impl SpanExporter,
    dropped: Arc<AtomicU64>,
    closing: CancellationToken,
) {
    let mut batch = Vec::new();
    let (mut said, mut said_at) = (0, None::<Instant>);
    loop {
        let received = closing
            .run_until_cancelled(spans.recv_many(&mut batch, MAX_BATCH))
            .await;
        if received.is_some() {
            let gathering = gather(&mut spans, &mut batch);
            let gathering = tokio::time::timeout(GATHER_TIMEOUT, gathering);
            let _ = closing.run_until_cancelled(gathering).await;
        } else {
            // What is there is sent, and nothing more is taken.
            spans.close();
            gather(&mut spans, &mut batch).await;
            if batch.is_empty() {
                return;
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let sent = exporter.export(std::mem::take(&mut batch));
        let sent = tokio::time::timeout(EXPORT_TIMEOUT, sent).await;
        if !matches!(sent, Ok(Ok(()))) {
            dropped.fetch_add(count, Ordering::Relaxed);
        }
        let so_far = dropped.load(Ordering::Relaxed);
        if so_far > said && said_at.is_none_or(|at| at.elapsed() > WARN_INTERVAL) {
            (said, said_at) = (so_far, Some(Instant::now()));
            tracing::warn!(
                dropped = so_far,
                "spans dropped: the collector does not accept them; check --otlp-endpoint"
            );
        }
    }
}

/// Fills a batch, or takes all there is of a queue that is closed.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    while batch.len() < MAX_BATCH {
        let room = MAX_BATCH - batch.len();
        if spans.recv_many(batch, room).await == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tokio::sync::Semaphore;

    use super::*;

    /// Takes a batch for each permit.
    #[derive(Debug, Clone)]
    struct Slow(Arc<Semaphore>, Arc<AtomicU64>);

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let permit = self.0.acquire().await;
            permit.map(|permit| permit.forget()).ok();
            self.1.fetch_add(batch.len() as u64, Ordering::Relaxed);
            Ok(())
        }
    }

    fn end_spans(provider: &SdkTracerProvider, count: usize) {
        let tracer = provider.tracer("test");
        for _ in 0..count {
            drop(tracer.start("span"));
        }
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_sent() {
        let exporter = Slow(Arc::new(Semaphore::new(100)), Arc::default());
        let (queue, exporting) = start(exporter.clone());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .build();
        end_spans(&provider, 1300);
        exporting.finish(Duration::from_secs(60)).await;
        assert_eq!(exporter.1.load(Ordering::Relaxed), 1300);
    }

    #[tokio::test]
    async fn a_collector_that_hangs_costs_spans_which_are_counted_and_no_time() {
        let exporter = Slow(Arc::new(Semaphore::new(0)), Arc::default());
        let (queue, exporting) = start(exporter.clone());
        let dropped = Arc::clone(&exporting.dropped);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .build();
        // This thread does not give way: nothing leaves the queue meanwhile.
        end_spans(&provider, MAX_QUEUED + 10);
        assert_eq!(dropped.load(Ordering::Relaxed), 10);
        exporting.finish(Duration::from_millis(10)).await;
        assert_eq!(exporter.1.load(Ordering::Relaxed), 0);
    }
}
