//! The way to the collector.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use url::Url;

/// A collector is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer has the number of rejected spans, and the reason.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What posts batches of spans of `resource` to `url`.
pub(super) fn exporter(url: &Url, resource: &Resource) -> anyhow::Result<SpanExporter> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT)
        // The machine's proxy may be the one that is traced.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("HTTP client")?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector(http))
        .with_endpoint(url.as_str())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    exporter.set_resource(resource);
    Ok(exporter)
}

#[derive(Debug)]
struct Collector(reqwest::Client);

/// As its attribute `async_trait` writes it.
impl HttpClient for Collector {
    fn send_bytes<'this, 'sent>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'this: 'sent,
        Self: 'sent,
    {
        Box::pin(async move {
            let mut reply = self.0.execute(request.try_into()?).await?;
            let mut bytes = BytesMut::new();
            while let Some(part) = reply.chunk().await? {
                if bytes.len() + part.len() > MAX_ANSWER_BYTES {
                    return Err("the collector's answer is too long".into());
                }
                bytes.extend_from_slice(&part);
            }
            let mut response = Response::new(bytes.freeze());
            *response.status_mut() = reply.status();
            *response.headers_mut() = std::mem::take(reply.headers_mut());
            Ok(response)
        })
    }
}
