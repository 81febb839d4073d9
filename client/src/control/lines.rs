//! Answers of JSON lines, sent as they become known.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that may wait for a client that does not read.
const LINES_QUEUE: usize = 16;

/// The sending end of an answer of JSON lines.
pub(super) struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    /// False when the reader is gone.
    pub(super) async fn send(&self, line: &impl Serialize) -> bool {
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return false;
        };
        bytes.push(b'\n');
        self.0.send(bytes.into()).await.is_ok()
    }

    /// The client has hung up.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// An answer of lines that `write` sends, on a task of its own.
pub(super) fn lines<W: Future<Output = ()> + Send + 'static>(
    write: impl FnOnce(Lines) -> W + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel(LINES_QUEUE);
    tokio::spawn(write(Lines(sender)));
    let body = stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(line), receiver))
    });
    let headers = [("content-type", "application/x-ndjson")];
    (headers, Body::from_stream(body)).into_response()
}
