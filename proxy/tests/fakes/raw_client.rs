//! A client that writes exact bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::DEADLINE;
use super::origin::field;

/// A response as it came, split at the empty line.
#[derive(Debug)]
pub struct RawResponse {
    pub head: String,
    pub body: Vec<u8>,
}

impl RawResponse {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends `request` and reads until the proxy closes; the request has to ask for that.
pub async fn exchange(proxy: SocketAddr, request: impl AsRef<[u8]>) -> RawResponse {
    let exchanging = async {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    split(
        &tokio::time::timeout(DEADLINE, exchanging)
            .await
            .expect("the proxy answers"),
    )
}

/// `GET` in absolute-form with further header lines, each ended by CRLF.
pub async fn get(proxy: SocketAddr, url: &str, fields: &str) -> RawResponse {
    let host = url.split('/').nth(2).unwrap();
    exchange(
        proxy,
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n"),
    )
    .await
}

/// The same in origin-form, as for a mirror.
pub async fn get_from_mirror(proxy: SocketAddr, path: &str, fields: &str) -> RawResponse {
    exchange(
        proxy,
        format!("GET {path} HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\n{fields}\r\n"),
    )
    .await
}

fn split(bytes: &[u8]) -> RawResponse {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a whole head")
        + 4;
    let (head, body) = bytes.split_at(end);
    RawResponse {
        head: String::from_utf8(head.to_vec()).unwrap(),
        body: body.to_vec(),
    }
}
