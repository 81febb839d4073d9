//! `Expect: 100-continue` across the proxy: RFC 9110 section 10.1.1.
//!
//! The client holds its body back until the registry wants it. hyper sends `100 Continue` to
//! the client when the body is first read, so reading waits for the registry's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Timeout;

use crate::body::{BodyError, ProxyBody, boxed, streamed};
use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// A registry that says nothing for this long does not know the expectation.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The request with its body held back, if it expects `100-continue`.
pub(crate) fn hold_back(request: Request<Incoming>, stats: Arc<ProxyStats>) -> Request<ProxyBody> {
    let expects = request
        .headers()
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !expects {
        return request.map(streamed);
    }
    let (wanted, answer) = oneshot::channel();
    let wanted = Mutex::new(Some(wanted));
    let gate = Box::pin(tokio::time::timeout(CONTINUE_TIMEOUT, answer));
    let mut request = request.map(|body| {
        boxed(HeldBody {
            gate: Some(gate),
            body,
            stats,
        })
    });
    // hyper drops the callback with the final response, which closes the gate.
    hyper::ext::on_informational(&mut request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            let sender = wanted.lock().take();
            sender.map(|sender| sender.send(()));
        }
    });
    request
}

struct HeldBody {
    gate: Option<Pin<Box<Timeout<oneshot::Receiver<()>>>>>,
    body: Incoming,
    stats: Arc<ProxyStats>,
}

/// The registry has answered and does not want the body.
#[derive(Debug, thiserror::Error)]
#[error("the registry answered without asking for the body")]
struct NotWanted;

impl Body for HeldBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &mut self.gate {
            match ready!(gate.as_mut().poll(context)) {
                Ok(Ok(())) => self.gate = None,
                Err(_) => {
                    self.gate = None;
                    set_mark!(self.stats, Mark::ExpectationIgnored);
                }
                Ok(Err(_)) => return Poll::Ready(Some(Err(NotWanted.into()))),
            }
        }
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
