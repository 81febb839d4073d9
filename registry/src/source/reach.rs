//! Which registries take connections at all.
//!
//! A firewall may let nodes through and not the supernode: what it sends is not answered. Each layer
//! would then wait for the same silence. So a registry that was not heard of lately is called first,
//! once for all who wait, and one that does not answer is not called again for a minute.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future;
use moka::future::Cache;
use tokio::net::TcpStream;

use crate::link_local::is_link_local;
use crate::names::host::RegistryHost;

/// How long it is remembered whether a registry answers.
const REACH_TTL: Duration = Duration::from_secs(60);
/// Registries remembered.
const MAX_KNOWN: u64 = 10_000;
/// What those who ask wait for a first answer; it is awaited further for those after them.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// A registry that does not accept a connection by then is silent: several attempts of the kernel.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of registries. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    heard: Cache<RegistryHost, Heard>,
    /// Since when the first answer is awaited.
    called: Cache<RegistryHost, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It took a connection, or refused it: a request tells more.
    Answer,
    Nothing,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            heard: Cache::builder()
                .max_capacity(MAX_KNOWN)
                .time_to_live(REACH_TTL)
                .build(),
            called: Cache::builder()
                .max_capacity(MAX_KNOWN)
                .time_to_live(SILENCE_TIMEOUT)
                .build(),
        }
    }
}

impl Reach {
    /// Whether `registry` is worth a request now.
    pub(super) async fn answers(&self, registry: &RegistryHost) -> bool {
        if let Some(heard) = self.heard.get(registry).await {
            return heard == Heard::Answer;
        }
        // Who comes later waits no longer than who came first.
        let now = async { Instant::now() };
        let since = self.called.get_with(registry.clone(), now).await;
        let left = ANSWER_TIMEOUT.saturating_sub(since.elapsed());
        let (known, called) = (self.heard.clone(), registry.clone());
        let calling = async move { known.get_with(called.clone(), call(called)).await };
        // Keeps running when nothing waits for it any longer.
        let calling = tokio::spawn(calling);
        let heard = tokio::time::timeout(left, calling).await;
        heard.is_ok_and(|heard| heard.is_ok_and(|heard| heard == Heard::Answer))
    }

    /// A request has met silence where a connection was to begin.
    pub(super) async fn note_silence(&self, registry: &RegistryHost) {
        self.heard.insert(registry.clone(), Heard::Nothing).await;
    }
}

async fn call(registry: RegistryHost) -> Heard {
    match tokio::time::timeout(SILENCE_TIMEOUT, dial(&registry)).await {
        Ok(()) => Heard::Answer,
        Err(_) => Heard::Nothing,
    }
}

/// Ends with the first answer of any of its addresses. A name that does not resolve is an answer.
async fn dial(registry: &RegistryHost) {
    let found = tokio::net::lookup_host((registry.host(), registry.port())).await;
    let addresses: Vec<SocketAddr> = found
        .into_iter()
        .flatten()
        .filter(|address| !is_link_local(address.ip()))
        .collect();
    if addresses.is_empty() {
        return;
    }
    let dialling = addresses
        .into_iter()
        .map(|address| Box::pin(TcpStream::connect(address)));
    drop(future::select_all(dialling).await);
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_registry_that_answers_is_called_once_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = RegistryHost::new("127.0.0.1", port);
        let reach = Reach::default();
        assert!(reach.answers(&registry).await);
        listener.accept().await.unwrap();
        drop(listener);
        assert!(reach.answers(&registry).await, "not asked again");
        let closed = RegistryHost::new("127.0.0.1", port);
        assert!(
            Reach::default().answers(&closed).await,
            "refusing is an answer"
        );
    }

    #[tokio::test]
    async fn silence_is_remembered() {
        let registry = RegistryHost::new("127.0.0.1", 1);
        let reach = Reach::default();
        reach.note_silence(&registry).await;
        assert!(!reach.answers(&registry).await);
    }
}
