//! A registry with one blob, which it gives to one bearer.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::origin::{Origin, field};

pub const REPOSITORY: &str = "team/app";
/// The header line of the caller that the registry lets in.
pub const ALLOWED: &str = "Authorization: Bearer good\r\n";
/// What it answers all others, byte for byte.
pub const CHALLENGE: &str =
    "Www-Authenticate: Bearer realm=\"http://reg.test/service/token\",service=\"harbor-registry\"";
pub const UNAUTHORIZED: &str = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"unauthorized to access repository\"}]}\n";

/// How the registry misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub ignores_range: bool,
    /// Closes after this number of body bytes of each answer.
    pub breaks_after: Option<usize>,
    /// Answers blobs from here, by redirect.
    pub store: Option<SocketAddr>,
}

/// Starts it; the URL of its blob in front.
pub async fn start(blob: Arc<Vec<u8>>, digest: &str, faults: Faults) -> (String, Origin) {
    let origin =
        Origin::start(move |head, stream| answer(Arc::clone(&blob), faults, head, stream)).await;
    (blob_url(origin.addr, digest), origin)
}

pub fn blob_url(addr: SocketAddr, digest: &str) -> String {
    format!("http://{addr}/v2/{REPOSITORY}/blobs/{digest}")
}

async fn answer(blob: Arc<Vec<u8>>, faults: Faults, head: String, mut stream: TcpStream) {
    // Errors are the proxy closing early, which it may.
    let _ = if field(&head, "authorization") != Some("Bearer good") {
        let length = UNAUTHORIZED.len();
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\n{CHALLENGE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream
            .write_all(format!("{head}{UNAUTHORIZED}").as_bytes())
            .await
    } else if let Some(store) = faults.store {
        let head = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{store}/signed?sig=a%2Fb\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await
    } else {
        send(&blob, faults, &head, &mut stream).await
    };
}

/// Sends the blob, or what the request's `Range` asks for.
pub async fn send(
    blob: &[u8],
    faults: Faults,
    head: &str,
    stream: &mut TcpStream,
) -> std::io::Result<()> {
    let total = blob.len();
    let range = field(head, "range")
        .filter(|_| !faults.ignores_range)
        .map(|range| {
            let (first, last) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let last = last
                .parse()
                .map_or(total - 1, |last: usize| last.min(total - 1));
            (first.parse::<usize>().unwrap(), last)
        });
    let (status, bytes, content_range) = match range {
        None => ("200 OK", blob, String::new()),
        Some((first, last)) => (
            "206 Partial Content",
            &blob[first..=last],
            format!("Content-Range: bytes {first}-{last}/{total}\r\n"),
        ),
    };
    let length = bytes.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{content_range}X-From: registry\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream
        .write_all(&bytes[..faults.breaks_after.map_or(length, |most| most.min(length))])
        .await
}
