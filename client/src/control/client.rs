//! Talks to a host that runs on this machine, over its control socket.

use std::io;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use flotilla_torrents::{ContentId, Digest};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::control::cache::{CacheReport, Outcome};
use crate::control::{
    FetchEvent, FetchRequest, FetchedLayer, MAX_NAMED, Named, Outcomes, Pinning, Verified,
};
use crate::node::ContentRequest;
use crate::store::LayerAudit;

/// A list of a million layers has 400 MB.
const MAX_REPLY_BYTES: usize = 512 * 1024 * 1024;
/// All pieces of the largest layer damaged, every second one, have 30 MB.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// The host could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No host runs there, or only a dead one's socket is left.
    #[error("no flotilla runs behind {0}")]
    NotRunning(PathBuf),
    /// It belongs to another user.
    #[error("{0}: permission denied; run this as the user that flotilla runs as, or as root")]
    Denied(PathBuf),
    /// The socket cannot be used.
    #[error("{path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke off.
    #[error("control socket: {0}")]
    Http(#[from] reqwest::Error),
    /// The host answered something that is not understood.
    #[error("flotilla answered {0}")]
    Unexpected(String),
}

/// Why the host did not fetch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The source does not let the caller have it.
    #[error("the source refuses: {status} {reason}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// It is something else than what the caller wants.
    #[error("the source has {found}")]
    OtherDigest {
        /// What it is.
        found: Digest,
    },
    /// The caller is better off elsewhere.
    #[error("{0}")]
    NotDelivered(String),
    /// The host could not be asked.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    /// Verified bytes that are here.
    pub held: u64,
    /// Bytes of the whole.
    pub length: u64,
}

/// A running proxy or supernode. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DaemonClient {
    http: reqwest::Client,
    socket: PathBuf,
}

impl DaemonClient {
    /// Connects to the host whose control socket is at `socket`.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`] when no process listens there.
    pub async fn connect(socket: &Path) -> Result<Self, ControlError> {
        let path = || socket.to_owned();
        // For the reason alone, which the HTTP client keeps to itself.
        if let Err(source) = UnixStream::connect(socket).await {
            return Err(match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ControlError::NotRunning(path())
                }
                io::ErrorKind::PermissionDenied => ControlError::Denied(path()),
                _ => ControlError::Socket {
                    path: path(),
                    source,
                },
            });
        }
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            socket: path(),
        })
    }

    /// Everything that the host holds.
    ///
    /// # Errors
    /// The host could not be asked.
    pub async fn layers(&self) -> Result<CacheReport, ControlError> {
        let reply = self.call(Method::GET, "layers", &()).await?;
        read(reply).await
    }

    /// Removes layers that are neither pinned nor in use; what became of each.
    ///
    /// # Errors
    /// The host could not be asked.
    pub async fn remove(&self, contents: &[ContentId]) -> Result<Vec<Outcome>, ControlError> {
        self.each("layers/remove", contents, |contents| Named { contents })
            .await
    }

    /// Pins layers, so that they are never evicted, or gives them free; what became of each.
    ///
    /// # Errors
    /// The host could not be asked.
    pub async fn pin(
        &self,
        contents: &[ContentId],
        pinned: bool,
    ) -> Result<Vec<Outcome>, ControlError> {
        let pinning = |contents| Pinning { contents, pinned };
        self.each("layers/pin", contents, pinning).await
    }

    /// Compares layers with their recorded hashes; damaged ones are removed. `on_audit` is
    /// called for each, with an error where the damaged layer could not be removed.
    ///
    /// # Errors
    /// The host could not be asked, or stops.
    pub async fn verify(
        &self,
        contents: &[ContentId],
        mut on_audit: impl FnMut(Result<LayerAudit, (ContentId, String)>),
    ) -> Result<(), ControlError> {
        for batch in contents.chunks(MAX_NAMED) {
            let named = Named {
                contents: batch.to_vec(),
            };
            let reply = self.call(Method::POST, "layers/verify", &named).await?;
            let mut lines = std::pin::pin!(lines::<Verified>(reply));
            for content in batch {
                match lines.next().await {
                    Some(Ok(Verified::Audit(audit))) => on_audit(Ok(audit)),
                    // Evicted since it was named.
                    Some(Ok(Verified::Absent)) => {}
                    Some(Ok(Verified::Failed(reason))) => on_audit(Err((content.clone(), reason))),
                    Some(Err(error)) => return Err(error),
                    None => return Err(broken_off()),
                }
            }
        }
        Ok(())
    }

    /// Lets a node's proxy fetch `request`, in the caller's name, into its cache. Dropping the
    /// future ends the waiting; the node continues.
    ///
    /// # Errors
    /// The source does not let the caller have it, or the node does not deliver it.
    pub async fn fetch(
        &self,
        request: &ContentRequest,
        mut on_progress: impl FnMut(FetchProgress),
    ) -> Result<FetchedFile, FetchError> {
        let request = FetchRequest {
            url: request.url.clone(),
            headers: request.headers.clone(),
            digest: request.digest.clone(),
            filter_query: request.filter_query.clone(),
        };
        let reply = self.call(Method::POST, "fetch", &request).await?;
        let mut lines = Box::pin(lines::<FetchEvent>(reply));
        loop {
            match lines.next().await {
                Some(Ok(FetchEvent::Progress { held, length })) => {
                    on_progress(FetchProgress { held, length });
                }
                Some(Ok(FetchEvent::Complete(layer))) => {
                    self.check_path(&layer.path)?;
                    return Ok(FetchedFile {
                        layer,
                        _connection: Box::new(lines),
                    });
                }
                Some(Ok(FetchEvent::Refused { status, reason })) => {
                    return Err(FetchError::Refused { status, reason });
                }
                Some(Ok(FetchEvent::OtherDigest { found })) => {
                    return Err(FetchError::OtherDigest { found });
                }
                Some(Ok(FetchEvent::Failed { reason })) => {
                    return Err(FetchError::NotDelivered(reason));
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(broken_off().into()),
            }
        }
    }

    /// The socket's owner says which file it is: it has to be one of that user's cache.
    fn check_path(&self, path: &Path) -> Result<(), ControlError> {
        let canonical = |path: &Path| {
            path.canonicalize().map_err(|source| ControlError::Socket {
                path: path.to_owned(),
                source,
            })
        };
        let socket = canonical(&self.socket)?;
        let cache = socket.parent().map(|dir| dir.join("layers"));
        if cache.is_some_and(|cache| canonical(path).is_ok_and(|path| path.starts_with(cache))) {
            Ok(())
        } else {
            let path = path.display();
            Err(ControlError::Unexpected(format!(
                "with {path}, which is not in its cache"
            )))
        }
    }

    async fn each<T: Serialize>(
        &self,
        what: &str,
        contents: &[ContentId],
        message: impl Fn(Vec<ContentId>) -> T,
    ) -> Result<Vec<Outcome>, ControlError> {
        let mut outcomes = Vec::with_capacity(contents.len());
        for batch in contents.chunks(MAX_NAMED) {
            let message = message(batch.to_vec());
            let reply = self.call(Method::POST, what, &message).await?;
            let answer: Outcomes = read(reply).await?;
            if answer.outcomes.len() != batch.len() {
                return Err(ControlError::Unexpected(format!(
                    "{} outcomes for {} layers",
                    answer.outcomes.len(),
                    batch.len()
                )));
            }
            outcomes.extend(answer.outcomes);
        }
        Ok(outcomes)
    }

    async fn call(
        &self,
        method: Method,
        what: &str,
        message: &impl Serialize,
    ) -> Result<Response, ControlError> {
        let mut request = self
            .http
            .request(method.clone(), format!("http://flotilla/v1/{what}"));
        if method == Method::POST {
            request = request.json(message);
        }
        let reply = request.send().await?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let reason = bounded(reply, MAX_LINE_BYTES).await?;
        let reason = String::from_utf8_lossy(&reason).into_owned();
        Err(ControlError::Unexpected(format!("{status}: {reason}")))
    }
}

/// A layer in a node's cache. It is not evicted as long as this lives: link or copy it before.
pub struct FetchedFile {
    layer: FetchedLayer,
    /// Open, which the node takes for a lease.
    _connection: Box<dyn Send + Sync>,
}

impl FetchedFile {
    /// What it is, and where.
    pub fn layer(&self) -> &FetchedLayer {
        &self.layer
    }
}

impl std::fmt::Debug for FetchedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FetchedFile").field(&self.layer).finish()
    }
}

fn broken_off() -> ControlError {
    ControlError::Unexpected("no end: it stops".to_owned())
}

async fn read<T: DeserializeOwned>(reply: Response) -> Result<T, ControlError> {
    let bytes = bounded(reply, MAX_REPLY_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|e| ControlError::Unexpected(e.to_string()))
}

async fn bounded(mut reply: Response, most: usize) -> Result<BytesMut, ControlError> {
    let mut bytes = BytesMut::new();
    while let Some(part) = reply.chunk().await? {
        if bytes.len().saturating_add(part.len()) > most {
            return Err(ControlError::Unexpected(format!("more than {most} bytes")));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The JSON values of a reply with one a line.
fn lines<T: DeserializeOwned>(reply: Response) -> impl Stream<Item = Result<T, ControlError>> {
    stream::try_unfold(
        (reply, BytesMut::new()),
        |(mut reply, mut buffer)| async move {
            loop {
                if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(end.saturating_add(1));
                    let value = serde_json::from_slice(&line)
                        .map_err(|e| ControlError::Unexpected(e.to_string()))?;
                    return Ok(Some((value, (reply, buffer))));
                }
                if buffer.len() > MAX_LINE_BYTES {
                    let reason = format!("a line of more than {MAX_LINE_BYTES} bytes");
                    return Err(ControlError::Unexpected(reason));
                }
                match reply.chunk().await? {
                    Some(part) => buffer.extend_from_slice(&part),
                    None => return Ok(None),
                }
            }
        },
    )
}
