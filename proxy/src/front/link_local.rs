//! Link-local addresses are where clouds answer with a machine's credentials: nothing that
//! passes through the proxy goes there, whichever name or redirect leads to them.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub(crate) use flotilla_registry::link_local::is_link_local;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// The address of a server is link-local.
#[derive(Clone, Debug, thiserror::Error)]
#[error("link-local addresses are refused: {0}")]
pub(crate) struct LinkLocal(pub(crate) String);

/// Refuses a host that is written as such an address: these are not resolved.
pub(crate) fn check_literal(host: &str) -> Result<(), LinkLocal> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse() {
        Ok(ip) if is_link_local(ip) => Err(LinkLocal(host.to_owned())),
        _ => Ok(()),
    }
}

/// The operating system's resolver without these addresses.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver(pub(crate) GaiResolver);

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.to_string();
        // Some resolvers compare names of /etc/hosts letter by letter.
        let name = name.as_str().to_ascii_lowercase().parse().unwrap_or(name);
        let resolving = self.0.call(name);
        async move { permitted(&host, resolving.await?).map(Vec::into_iter) }.boxed()
    }
}

fn permitted(host: &str, found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let (refused, permitted): (Vec<_>, Vec<_>) =
        found.partition(|address| is_link_local(address.ip()));
    match (refused.first(), permitted.is_empty()) {
        (Some(address), true) => {
            let refused = LinkLocal(format!("{host} is {}", address.ip()));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
        }
        _ => Ok(permitted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_other_addresses() {
        let bad: SocketAddr = "169.254.169.254:80".parse().unwrap();
        let good: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let both = permitted("a.test", [bad, good].into_iter());
        assert_eq!(both.unwrap(), [good]);
        let none = permitted("a.test", [bad].into_iter()).unwrap_err();
        assert!(none.get_ref().unwrap().is::<LinkLocal>());
    }

    #[tokio::test]
    async fn other_spellings_of_an_address_are_resolved_and_refused() {
        // getaddrinfo understands them; nothing is asked over the network.
        let mut resolver = GuardedResolver(GaiResolver::new());
        for name in ["2852039166", "0xa9fea9fe"] {
            let refused = resolver.call(name.parse().unwrap()).await.unwrap_err();
            let refused = refused
                .get_ref()
                .is_some_and(|error| error.is::<LinkLocal>());
            assert!(refused, "{name}");
        }
    }
}
