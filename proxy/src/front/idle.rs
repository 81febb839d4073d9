//! Ends what no byte moves through any longer. A peer that has gone silent holds a connection and
//! its permit, and there are limited numbers of both.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::body::{BodyError, ProxyBody, boxed, inspected};
use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// No byte has moved for too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no byte has moved for {0:?}")]
pub(crate) struct Idle(Duration);

/// When the last byte moved, in whichever direction.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock()
    }

    /// What `work` comes to, unless nothing moves for `limit`. Cancels `work` then.
    pub(crate) async fn limit<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Idle> {
        let watch = async {
            while self.last().elapsed() < limit {
                tokio::time::sleep_until(self.last() + limit).await;
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = watch => Err(Idle(limit)),
        }
    }

    /// `body`, each frame of which counts.
    pub(crate) fn of_body(&self, body: ProxyBody) -> ProxyBody {
        let activity = self.clone();
        inspected(body, move |_| activity.touch())
    }

    /// The same body; it fails when it is waited for, and nothing moves for `limit`.
    pub(crate) fn limit_body(
        &self,
        limit: Duration,
        body: ProxyBody,
        stats: Arc<ProxyStats>,
    ) -> ProxyBody {
        self.touch();
        boxed(LimitedBody {
            body: self.of_body(body),
            activity: self.clone(),
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            span: tracing::Span::current(),
            stats,
        })
    }

    /// `stream`, what is read from and written to it counts.
    pub(crate) fn of_stream<S>(&self, stream: S) -> WatchedStream<S> {
        WatchedStream {
            stream,
            activity: self.clone(),
        }
    }
}

struct LimitedBody {
    /// Its frames count.
    body: ProxyBody,
    activity: Activity,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// The request's.
    span: tracing::Span,
    stats: Arc<ProxyStats>,
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        while this.timer.as_mut().poll(context).is_ready() {
            let end = this.activity.last() + this.limit;
            if end <= Instant::now() {
                let idle = Idle(this.limit);
                let _span = this.span.enter();
                set_mark!(this.stats, Mark::AnswerStalled, reason = %idle);
                return Poll::Ready(Some(Err(idle.into())));
            }
            this.timer.as_mut().reset(end);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose bytes count as [`Activity`].
#[derive(Debug)]
pub(crate) struct WatchedStream<S> {
    stream: S,
    activity: Activity,
}

impl<S> WatchedStream<S> {
    fn touched<T>(&self, poll: Poll<T>) -> Poll<T> {
        if poll.is_ready() {
            self.activity.touch();
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.touched(poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.touched(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.touched(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// As many frames, a third of the limit apart, then silence.
    fn drops(count: u32) -> ProxyBody {
        let frames = stream::unfold(0, move |sent| async move {
            if sent == count {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LIMIT / 3).await;
            let frame = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, io::Error>(frame), sent + 1))
        });
        boxed(StreamBody::new(frames))
    }

    #[tokio::test]
    async fn a_slow_body_continues_and_a_silent_one_ends() {
        let mut body = Activity::new().limit_body(LIMIT, drops(6), Arc::default());
        for _ in 0..6 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert!(body.frame().await.unwrap().unwrap_err().is::<Idle>());
    }

    #[tokio::test]
    async fn an_answer_may_be_late_while_the_request_moves() {
        let activity = Activity::new();
        let mut upload = activity.of_body(drops(6));
        let sending = async {
            for _ in 0..6 {
                assert!(upload.frame().await.unwrap().is_ok());
            }
        };
        assert!(activity.limit(LIMIT, sending).await.is_ok());
        let silent = activity.limit(LIMIT, upload.frame()).await;
        assert!(silent.is_err());
    }

    #[tokio::test]
    async fn a_stream_is_idle_when_neither_side_sends() {
        let (near, mut far) = tokio::io::duplex(64);
        let activity = Activity::new();
        let mut near = activity.of_stream(near);
        let chatting = async {
            for _ in 0..6 {
                tokio::time::sleep(LIMIT / 3).await;
                near.write_all(b"x").await.unwrap();
                far.read_u8().await.unwrap();
            }
        };
        assert!(activity.limit(LIMIT, chatting).await.is_ok());
        assert!(activity.limit(LIMIT, near.read_u8()).await.is_err());
    }
}
