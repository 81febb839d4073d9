//! A web server that does what a test tells it, counts, and listens on loopback.

mod certificate;

pub use certificate::Certificate;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How many came before it.
    pub number: usize,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered; the connection is closed behind it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Pause after each so many bytes of the body.
    pub pace: Option<(usize, Duration)>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: vec![("content-length".to_owned(), body.len().to_string())],
            body,
            pace: None,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(old, _)| old != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body breaks off after `bytes`.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    pub fn paced(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes, pause));
        self
    }
}

/// What a well-behaved server answers for `content` (RFC 9110 sections 13.1.5 and 14).
pub fn served(asked: &Asked, content: &[u8], etag: &str) -> Answer {
    let total = content.len();
    let is_current = asked.header("if-range").is_none_or(|etags| etags == etag);
    let range = asked.header("range").filter(|_| is_current);
    let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return Answer::new(200, content).header("etag", etag);
    };
    let (first, last) = range.split_once('-').unwrap();
    let bytes = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..(last + 1).min(total),
        (Ok(first), Err(_)) => first..total,
        (Err(_), Ok(last)) => total.saturating_sub(last)..total,
        _ => panic!("{range}"),
    };
    if bytes.start >= total {
        return Answer::new(416, "").header("content-range", &format!("bytes */{total}"));
    }
    let content_range = format!("bytes {}-{}/{total}", bytes.start, bytes.end - 1);
    Answer::new(206, &content[bytes])
        .header("content-range", &content_range)
        .header("etag", etag)
}

/// Bytes that do not repeat.
pub fn content(length: usize, seed: u32) -> Vec<u8> {
    let words = (0..u32::try_from(length).unwrap() / 4 + 1)
        .flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_be_bytes());
    words.take(length).collect()
}

type Behaviour = dyn Fn(&Asked) -> Answer + Send + Sync;

pub struct FakeSource {
    scheme: &'static str,
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
}

impl FakeSource {
    pub fn start(behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(behaviour), None)
    }

    /// Over HTTPS, with this certificate.
    pub fn start_tls(
        certificate: &Certificate,
        behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Arc::new(behaviour), Some(certificate.server()))
    }

    fn listen(behaviour: Arc<Behaviour>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = Self {
            scheme: if tls.is_some() { "https" } else { "http" },
            address: listener.local_addr().unwrap(),
            log: Arc::default(),
            sent: Arc::default(),
        };
        let (log, sent) = (Arc::clone(&source.log), Arc::clone(&source.sent));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, sent) = (Arc::clone(&log), Arc::clone(&sent));
                let (behaviour, tls) = (Arc::clone(&behaviour), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // A client that is killed breaks the connection, as does one without trust.
                    let _ = match tls {
                        None => answer(stream, &log, &sent, &*behaviour),
                        Some(config) => {
                            let session = rustls::ServerConnection::new(config).unwrap();
                            let stream = rustls::StreamOwned::new(session, stream);
                            answer(stream, &log, &sent, &*behaviour)
                        }
                    };
                });
            }
        });
        source
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", self.scheme, self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Bytes of bodies that went out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn answer(
    stream: impl Read + Write,
    log: &Mutex<Vec<Asked>>,
    sent: &AtomicU64,
    behaviour: &Behaviour,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = stream.by_ref().lines();
    // A connection that closes without a request was opened beside another one.
    let Some(first) = lines.next() else {
        return Ok(());
    };
    let first = first?;
    let mut asked = Asked {
        target: first.split(' ').nth(1).unwrap_or_default().to_owned(),
        ..Asked::default()
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = value.trim().to_owned();
        asked.headers.insert(name.to_ascii_lowercase(), value);
    }
    {
        let mut log = log.lock().unwrap();
        asked.number = log.len();
        log.push(asked.clone());
    }
    let answer = behaviour(&asked);
    let stream = stream.get_mut();
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let (part, pause) = answer.pace.unwrap_or((64 * 1024, Duration::ZERO));
    for bytes in answer.body.chunks(part) {
        stream.write_all(bytes)?;
        sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    Ok(())
}
