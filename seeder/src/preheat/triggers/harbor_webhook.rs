//! Harbor's webhook (harbor, src/pkg/notifier/formats/), in its own form or as a CloudEvent.
//!
//! Harbor sends again what is not taken with 2xx, three times.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::error::TriggerError;
use super::state::Triggers;

/// Harbor names one.
const MAX_RESOURCES: usize = 100;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// In Harbor's own form.
    event_data: Option<EventData>,
    /// In a CloudEvent.
    data: Option<EventData>,
}

#[derive(Deserialize)]
struct EventData {
    resources: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
struct Resource {
    digest: Option<String>,
    resource_url: Option<String>,
}

pub(super) async fn take(State(triggers): State<Arc<Triggers>>, body: Bytes) -> Response {
    match submit(&triggers, &body).await {
        Ok(jobs) => axum::Json(serde_json::json!({ "jobs": jobs })).into_response(),
        Err(error) => error.answer(),
    }
}

async fn submit(triggers: &Triggers, body: &[u8]) -> Result<Vec<u64>, TriggerError> {
    let mut jobs = Vec::new();
    for image in images_of(body)? {
        let record = triggers
            .jobs
            .submit(triggers.request(vec![image]), None)
            .await?;
        jobs.push(record.id.0);
    }
    Ok(jobs)
}

/// The images that were pushed; other events have none.
fn images_of(body: &[u8]) -> Result<Vec<String>, TriggerError> {
    let event: Event =
        serde_json::from_slice(body).map_err(|error| TriggerError::Malformed(error.to_string()))?;
    let data = match event.kind.as_deref() {
        Some("PUSH_ARTIFACT") => event.event_data,
        Some("harbor.artifact.pushed") => event.data,
        _ => None,
    };
    let resources = data.and_then(|data| data.resources).unwrap_or_default();
    if resources.len() > MAX_RESOURCES {
        let error = format!(
            "{} resources; {MAX_RESOURCES} are the most",
            resources.len()
        );
        return Err(TriggerError::Malformed(error));
    }
    let images = resources.into_iter().filter_map(|resource| {
        let image = resource.resource_url?;
        // What was pushed, also when the tag has moved on since.
        Some(match resource.digest {
            Some(digest) if !digest.is_empty() && !image.contains('@') => {
                format!("{image}@{digest}")
            }
            _ => image,
        })
    });
    Ok(images.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(tag: &str, url: &str) -> String {
        let digest = format!("sha256:{}", "ab".repeat(32));
        format!(r#"{{"digest":"{digest}","tag":"{tag}","resource_url":"{url}"}}"#)
    }

    #[test]
    fn both_forms_name_what_was_pushed() {
        let repository = r#"{"date_created":1677053165,"name":"nginx","namespace":"library",
            "repo_full_name":"library/nginx","repo_type":"public"}"#;
        let tagged = resource("1.25", "harbor.test/library/nginx:1.25");
        let digest = format!("sha256:{}", "ab".repeat(32));
        let untagged = resource(&digest, &format!("harbor.test/library/nginx@{digest}"));
        let own = format!(
            r#"{{"type":"PUSH_ARTIFACT","occur_at":1678082303,"operator":"admin",
                "event_data":{{"resources":[{tagged}],"repository":{repository}}}}}"#
        );
        let images = images_of(own.as_bytes()).unwrap();
        assert_eq!(images, [format!("harbor.test/library/nginx:1.25@{digest}")]);
        let cloud_event = format!(
            r#"{{"specversion":"1.0","id":"4b2f89a6","requestid":"2eed",
                "source":"/projects/1/webhook/policies/3","type":"harbor.artifact.pushed",
                "datacontenttype":"application/json","time":"2023-03-06T06:08:43Z",
                "data":{{"resources":[{untagged}],"repository":{repository}}},
                "operator":"robot$library+x"}}"#
        );
        let images = images_of(cloud_event.as_bytes()).unwrap();
        assert_eq!(images, [format!("harbor.test/library/nginx@{digest}")]);
    }

    #[test]
    fn other_events_name_nothing_and_nonsense_is_refused() {
        for body in [
            r#"{"type":"PULL_ARTIFACT","event_data":{"resources":[{"resource_url":"a.test/b"}]}}"#,
            r#"{"type":"harbor.artifact.deleted","data":{"resources":[{"resource_url":"a.test/b"}]}}"#,
            r#"{"type":"PUSH_ARTIFACT","event_data":null}"#,
            "{}",
        ] {
            assert!(images_of(body.as_bytes()).unwrap().is_empty(), "{body}");
        }
        assert!(images_of(b"[]").is_err());
    }
}
