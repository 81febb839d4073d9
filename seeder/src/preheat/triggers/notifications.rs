//! A registry's notifications (distribution, docs/content/about/notifications.md), and the provider
//! "Kraken" of Harbor, which sends the same with other capitals (harbor,
//! src/pkg/p2p/preheat/provider/kraken.go).
//!
//! A registry sends an event again until it is taken with 2xx, so that nothing but a full queue is
//! an error for it. Harbor's Kraken asks once and takes 2xx for done: what fails soon is in its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flotilla_registry::names::route::Route;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::error::TriggerError;
use super::state::Triggers;
use crate::preheat::image_url::{ImageUrlError, image_at};
use crate::preheat::jobs::{JobId, JobState, SubmitError};
use crate::reply::refusal;

/// What distribution sends its events as.
const NOTIFICATIONS: &str = "application/vnd.docker.distribution.events.v1+json";
/// Harbor waits for 30 seconds.
const KRAKEN_WAITS: Duration = Duration::from_secs(20);
const MAX_EVENTS: usize = 1000;

/// An image, or why the event names none.
type NamedImage = Result<String, ImageUrlError>;

/// With names in lower case.
#[derive(Deserialize)]
struct Envelope {
    events: Option<Vec<Event>>,
}

#[derive(Deserialize)]
struct Event {
    action: Option<String>,
    target: Option<EventTarget>,
    request: Option<RequestOfEvent>,
}

#[derive(Deserialize)]
struct EventTarget {
    mediatype: Option<String>,
    digest: Option<String>,
    repository: Option<String>,
    url: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct RequestOfEvent {
    host: Option<String>,
}

pub(super) async fn take(
    State(triggers): State<Arc<Triggers>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let images = match images_of(&body) {
        Ok(images) => images,
        Err(error) => return error.answer(),
    };
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with(NOTIFICATIONS) {
        take_notifications(&triggers, images).await
    } else {
        take_from_kraken(&triggers, images).await
    }
}

async fn take_notifications(triggers: &Triggers, images: Vec<NamedImage>) -> Response {
    let mut jobs = Vec::new();
    for image in images {
        match submit(triggers, image).await {
            Ok(id) => jobs.push(id.0),
            Err(TriggerError::Submit(error @ (SubmitError::Full | SubmitError::Disk(_)))) => {
                return TriggerError::Submit(error).answer();
            }
            Err(error) => tracing::info!(%error, "notification without a preheat"),
        }
    }
    axum::Json(serde_json::json!({ "jobs": jobs })).into_response()
}

async fn take_from_kraken(triggers: &Triggers, images: Vec<NamedImage>) -> Response {
    let mut jobs = Vec::new();
    for image in images {
        match submit(triggers, image).await {
            Ok(id) => jobs.push(id),
            Err(error) => return error.answer(),
        }
    }
    let failed = async {
        for id in &jobs {
            let finished = triggers.jobs.finished(*id).await;
            let failed = finished.filter(|record| record.state != JobState::Success);
            if let Some(failed) = failed {
                return Some(failed.cause.unwrap_or_default());
            }
        }
        None
    };
    // What takes longer has begun well.
    if let Ok(Some(cause)) = tokio::time::timeout(KRAKEN_WAITS, failed).await {
        return refusal(StatusCode::BAD_GATEWAY, &cause);
    }
    let jobs: Vec<u64> = jobs.iter().map(|id| id.0).collect();
    axum::Json(serde_json::json!({ "jobs": jobs })).into_response()
}

async fn submit(triggers: &Triggers, image: NamedImage) -> Result<JobId, TriggerError> {
    let preheat = triggers.request(vec![image?]);
    Ok(triggers.jobs.submit(preheat, None).await?.id)
}

/// The images that were pushed; other events, and those of layers, are left out.
fn images_of(body: &[u8]) -> Result<Vec<NamedImage>, TriggerError> {
    let malformed = |error: serde_json::Error| TriggerError::Malformed(error.to_string());
    let document: Value = serde_json::from_slice(body).map_err(malformed)?;
    let envelope: Envelope = serde_json::from_value(in_lower_case(document)).map_err(malformed)?;
    let events = envelope.events.unwrap_or_default();
    if events.len() > MAX_EVENTS {
        let error = format!("{} events; {MAX_EVENTS} are the most", events.len());
        return Err(TriggerError::Malformed(error));
    }
    let pushes = events
        .into_iter()
        .filter(|event| event.action.as_deref() == Some("push"));
    Ok(pushes.filter_map(image_of).collect())
}

fn image_of(event: Event) -> Option<NamedImage> {
    let target = event.target?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let digest = given(target.digest);
    if let Some(url) = given(target.url) {
        // Others are of layers.
        let is_image = |url: Url| Route::of(url.path()) == Route::Manifest;
        return Url::parse(&url)
            .is_ok_and(is_image)
            .then(|| image_at(&url, digest.as_deref()));
    }
    let kind = target.mediatype.unwrap_or_default();
    if !kind.contains("manifest") && !kind.contains("image.index") {
        return None;
    }
    let host = given(event.request?.host)?;
    let repository = given(target.repository)?;
    let reference = digest.or_else(|| given(target.tag))?;
    let url = format!("https://{host}/v2/{repository}/manifests/{reference}");
    Some(image_at(&url, None))
}

/// Go's decoder takes names in any case, and its encoder makes them with capitals.
fn in_lower_case(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| (name.to_lowercase(), in_lower_case(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(in_lower_case).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_were_pushed_are_taken_and_layers_are_not() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        // What registry 2.8 sends of one push.
        let body = serde_json::json!({"events": [
            {"id": "a", "timestamp": "2026-11-23T23:54:56.1Z", "action": "push", "target": {
                "mediaType": "application/octet-stream", "size": 5, "digest": digest, "length": 5,
                "repository": "team/app", "url": format!("http://r.test/v2/team/app/blobs/{digest}")},
             "request": {"id": "b", "addr": "10.0.0.1:5", "host": "r.test", "method": "PUT",
                "useragent": "docker"}, "actor": {}, "source": {"addr": "r:5000", "instanceID": "c"}},
            {"id": "d", "action": "push", "target": {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": 5,
                "digest": digest, "repository": "team/app", "tag": "1.0",
                "url": format!("http://r.test/v2/team/app/manifests/{digest}")}},
            {"id": "e", "action": "pull", "target": {"digest": digest, "repository": "team/app",
                "url": format!("http://r.test/v2/team/app/manifests/{digest}")}},
            {"id": "f", "action": "push", "target": {"repository": "team/other", "tag": "2",
                "mediaType": "application/vnd.oci.image.index.v1+json"},
             "request": {"host": "r.test:5000"}},
        ]});
        let images = images_of(body.to_string().as_bytes()).unwrap();
        let images: Vec<String> = images.into_iter().map(Result::unwrap).collect();
        let expected = [
            format!("r.test/team/app@{digest}"),
            "r.test:5000/team/other:2".to_owned(),
        ];
        assert_eq!(images, expected);
    }

    #[test]
    fn what_is_no_envelope_is_refused_and_what_is_empty_is_not() {
        for body in ["", "[]", r#"{"events": 5}"#, r#"{"events": [[]]}"#] {
            assert!(images_of(body.as_bytes()).is_err(), "{body}");
        }
        for body in [
            "{}",
            r#"{"Events": null}"#,
            r#"{"Events": [{"Target": null, "Action": "push"}]}"#,
        ] {
            assert!(images_of(body.as_bytes()).unwrap().is_empty(), "{body}");
        }
        let many = format!(r#"{{"events": [{}{{}}]}}"#, "{},".repeat(MAX_EVENTS));
        assert!(images_of(many.as_bytes()).is_err());
    }
}
