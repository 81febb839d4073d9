//! The bodies that flow through the proxy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Why a body broke off; hyper only closes the connection.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// One body type for all sources. An alias, because hyper's traits are on the boxed type.
pub(crate) type ProxyBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that streams from a peer of the proxy.
pub(crate) fn streamed(incoming: Incoming) -> ProxyBody {
    boxed(incoming)
}

pub(crate) fn boxed<B>(body: B) -> ProxyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub(crate) fn empty() -> ProxyBody {
    boxed(Empty::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ProxyBody {
    boxed(Full::new(bytes.into()))
}

/// What passes through an inspected body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Passing<'a> {
    /// A frame. `is_last`: its reader need not ask for another one, and may not.
    Frame {
        frame: &'a Frame<Bytes>,
        is_last: bool,
    },
    /// The body breaks off.
    Failure,
    /// The body has ended.
    End,
}

/// `body` unchanged; `inspect` sees what passes.
pub(crate) fn inspected<F>(body: ProxyBody, inspect: F) -> ProxyBody
where
    F: FnMut(Passing<'_>) + Send + Unpin + 'static,
{
    boxed(Inspected { body, inspect })
}

struct Inspected<F> {
    body: ProxyBody,
    inspect: F,
}

impl<F: FnMut(Passing<'_>) + Unpin> Body for Inspected<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = ready!(Pin::new(&mut this.body).poll_frame(context));
        (this.inspect)(match &polled {
            Some(Ok(frame)) => Passing::Frame {
                frame,
                is_last: this.body.is_end_stream(),
            },
            Some(Err(_)) => Passing::Failure,
            None => Passing::End,
        });
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::stream;
    use http::{HeaderMap, HeaderValue};
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn an_inspected_body_keeps_its_length_end_and_trailers() {
        let whole = inspected(full("seven b"), |_| {});
        assert_eq!(whole.size_hint().exact(), Some(7));
        assert!(!whole.is_end_stream());
        assert!(inspected(empty(), |_| {}).is_end_stream());

        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            HeaderValue::from_static("7"),
        )]);
        let frames = [Frame::data(Bytes::from("ab")), Frame::trailers(trailers)];
        let body = boxed(StreamBody::new(stream::iter(
            frames.map(Ok::<_, std::io::Error>),
        )));
        let (seen, passed) = mpsc::channel();
        let body = inspected(body, move |passing| {
            seen.send(match passing {
                Passing::Frame { frame, .. } => frame.data_ref().map_or("trailers", |_| "data"),
                Passing::Failure => "failure",
                Passing::End => "end",
            })
            .unwrap();
        });
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
        assert_eq!(collected.to_bytes(), "ab");
        assert_eq!(
            passed.iter().collect::<Vec<_>>(),
            ["data", "trailers", "end"]
        );
    }

    #[tokio::test]
    async fn the_last_frame_and_a_failure_are_seen() {
        let (seen, passed) = mpsc::channel();
        let report = seen.clone();
        let mut body = inspected(full("x"), move |passing| {
            let is_last = matches!(passing, Passing::Frame { is_last: true, .. });
            report.send(is_last).unwrap();
        });
        body.frame().await.unwrap().unwrap();
        assert!(passed.recv().unwrap());
        let failing = stream::iter([Err::<Frame<Bytes>, _>(std::io::Error::other("broken"))]);
        let mut body = inspected(boxed(StreamBody::new(failing)), move |passing| {
            seen.send(matches!(passing, Passing::Failure)).unwrap();
        });
        body.frame().await.unwrap().unwrap_err();
        assert!(passed.recv().unwrap());
    }
}
