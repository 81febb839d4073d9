//! Harbor's side of preheating: its three drivers, to the letter of harbor's
//! src/pkg/p2p/preheat/provider and of v2.11.0's. They send what these send, `null`s and zeros
//! included, and read what these read: a field of another type fails, one that is missing or
//! `null` is zero.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::fakes::DEADLINE;

/// Harbor waits for ten seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// auth_mode and auth_info of a provider's instance.
#[derive(Clone)]
pub(crate) enum Auth {
    None,
    /// Harbor takes any key of these for the user's name.
    Basic(&'static str, String),
    Bearer(String),
    Custom(&'static str, String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driver {
    /// Dragonfly of Harbor 2.12 and later.
    Dragonfly,
    /// Dragonfly of Harbor 2.11 and earlier.
    DragonflyBefore,
    Kraken,
}

#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) driver: Driver,
    pub(crate) endpoint: String,
    pub(crate) auth: Auth,
}

/// `PreheatImage` (provider/preheat_image.go).
#[derive(Clone)]
pub(crate) struct PreheatImage {
    pub(crate) url: String,
    pub(crate) authorization: Option<String>,
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
    /// Of the policy.
    pub(crate) scope: Option<&'static str>,
}

/// `PreheatingStatus` (provider/driver.go).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) id: String,
    /// PENDING, RUNNING, SUCCESS or FAIL.
    pub(crate) state: String,
    /// Rows of the table in the job's log.
    pub(crate) rows: Vec<[String; 3]>,
    pub(crate) error: String,
}

/// As encoding/json does with `null`.
fn or_zero<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct JobResponse {
    #[serde(default, deserialize_with = "or_zero")]
    id: i64,
    #[serde(default, deserialize_with = "or_zero")]
    created_at: Time,
    #[serde(default, deserialize_with = "or_zero")]
    updated_at: Time,
    #[serde(default, deserialize_with = "or_zero")]
    state: String,
    #[serde(default, deserialize_with = "or_zero")]
    result: JobResult,
}

#[derive(Default, Deserialize)]
struct JobResult {
    #[serde(default, deserialize_with = "or_zero")]
    job_states: Vec<JobState>,
}

#[derive(Default, Deserialize)]
struct JobState {
    #[serde(default, deserialize_with = "or_zero")]
    error: String,
    #[serde(default, deserialize_with = "or_zero")]
    results: Vec<Results>,
}

#[derive(Default, Deserialize)]
struct Results {
    /// `null` among them would be dereferenced.
    #[serde(default, deserialize_with = "or_zero")]
    success_tasks: Vec<Task>,
    #[serde(default, deserialize_with = "or_zero")]
    failure_tasks: Vec<Task>,
    #[serde(default, deserialize_with = "or_zero", rename = "scheduler_cluster_id")]
    _scheduler_cluster_id: u64,
}

#[derive(Default, Deserialize)]
struct Task {
    #[serde(default, deserialize_with = "or_zero")]
    url: String,
    #[serde(default, deserialize_with = "or_zero")]
    hostname: String,
    #[serde(default, deserialize_with = "or_zero", rename = "ip")]
    _ip: String,
    #[serde(default, deserialize_with = "or_zero")]
    description: String,
}

/// time.Time: RFC 3339 and nothing else.
#[derive(Debug, Default, PartialEq, PartialOrd)]
struct Time(Option<std::time::SystemTime>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(Some(time)))
    }
}

#[derive(Deserialize)]
struct CreatedBefore {
    #[serde(default, deserialize_with = "or_zero", rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct InfoBefore {
    #[serde(default, deserialize_with = "or_zero", rename = "ID")]
    _id: String,
    #[serde(default, deserialize_with = "or_zero", rename = "startTime")]
    start_time: String,
    #[serde(default, deserialize_with = "or_zero", rename = "finishTime")]
    finish_time: String,
    #[serde(default, deserialize_with = "or_zero", rename = "errorMsg")]
    error: String,
    #[serde(default, deserialize_with = "or_zero")]
    status: String,
}

impl Instance {
    fn url(&self, path: &str) -> String {
        let endpoint = self.endpoint.strip_suffix('/').unwrap_or(&self.endpoint);
        format!("{endpoint}{path}")
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.auth {
            Auth::None => request,
            Auth::Basic(user, password) => request.basic_auth(user, Some(password)),
            Auth::Bearer(token) => request.header("Authorization", format!("Bearer {token}")),
            Auth::Custom(name, value) => request.header(*name, value),
        }
    }

    /// client/http_client.go: anything but 2xx is an error that has the body in it.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<String, String> {
        let url = self.url(path);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30));
        let client = client.no_proxy().build().unwrap();
        let mut request = client.request(method.clone(), &url);
        request = request.header("Accept", "application/json");
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json");
            request = request.body(body.to_string());
        }
        let reply = self.authorize(request).send().await;
        let reply = reply.map_err(|error| error.to_string())?;
        let status = reply.status();
        let body = reply.text().await.unwrap();
        if !status.is_success() {
            return Err(format!("{method} {url:?} error: {status} {body}"));
        }
        // 208 is an error to the newer driver.
        assert_ne!(status.as_u16(), 208);
        Ok(body)
    }

    pub(crate) async fn health(&self) -> Result<(), String> {
        let path = match self.driver {
            Driver::Dragonfly => "/healthy",
            Driver::DragonflyBefore => "/_ping",
            Driver::Kraken => "/health",
        };
        self.send(Method::GET, path, None).await.map(drop)
    }

    pub(crate) async fn preheat(&self, image: &PreheatImage) -> Result<Status, String> {
        let mut headers = BTreeMap::new();
        headers.extend(
            image
                .authorization
                .iter()
                .map(|value| ("Authorization", value)),
        );
        let (id, state) = match self.driver {
            Driver::Dragonfly => {
                let body = json!({
                    "type": "preheat",
                    "args": {"type": "image", "url": image.url, "tag": "",
                        "filtered_query_params": "", "headers": headers,
                        "scope": image.scope.unwrap_or(""), "concurrent_count": 0, "timeout": 0},
                    "scheduler_cluster_ids": null,
                });
                let reply = self.send(Method::POST, "/oapi/v1/jobs", Some(body)).await?;
                let job: JobResponse = parse(&reply)?;
                assert!(job.created_at > Time(None) && job.updated_at >= job.created_at);
                (job.id.to_string(), "PENDING")
            }
            Driver::DragonflyBefore => {
                let body = json!({"type": "image", "url": image.url, "headers": headers,
                    "image": image.name, "tag": image.tag, "digest": image.digest});
                let reply = self.send(Method::POST, "/preheats", Some(body)).await?;
                let created: CreatedBefore = parse(&reply)?;
                (created.id, "PENDING")
            }
            Driver::Kraken => {
                let body = json!({"Events": [{
                    "Id": "k3jU8vYrZ", "TimeStamp": "2026-11-23T23:54:56.123456789Z",
                    "Action": "push",
                    "Target": {
                        "MediaType": "application/vnd.docker.distribution.manifest.v2+json",
                        "Digest": image.digest, "Repository": image.name, "Url": image.url,
                        "Tag": image.tag},
                    "Request": null, "Actor": null}]});
                self.send(Method::POST, "/registry/notifications", Some(body))
                    .await?;
                (String::new(), "SUCCESS")
            }
        };
        let (state, rows, error) = (state.to_owned(), Vec::new(), String::new());
        Ok(Status {
            id,
            state,
            rows,
            error,
        })
    }

    pub(crate) async fn check_progress(&self, id: &str) -> Result<Status, String> {
        assert!(!id.is_empty(), "no task ID");
        match self.driver {
            Driver::Dragonfly => {
                let path = format!("/oapi/v1/jobs/{id}");
                let job: JobResponse = parse(&self.send(Method::GET, &path, None).await?)?;
                Ok(status_of(&job))
            }
            Driver::DragonflyBefore => {
                let path = format!("/preheats/{id}");
                let info: InfoBefore = parse(&self.send(Method::GET, &path, None).await?)?;
                assert!(humantime::parse_rfc3339(&info.start_time).is_ok());
                let finished = humantime::parse_rfc3339(&info.finish_time).is_ok();
                let state = match info.status.as_str() {
                    "WAITING" => "PENDING",
                    "FAILED" => "FAIL",
                    other => other,
                };
                assert_eq!(finished, matches!(state, "SUCCESS" | "FAIL"));
                Ok(Status {
                    id: id.to_owned(),
                    state: state.to_owned(),
                    rows: Vec::new(),
                    error: info.error,
                })
            }
            Driver::Kraken => unreachable!("it is done at once"),
        }
    }

    /// job.go: health, preheat, and progress until it succeeds or fails.
    pub(crate) async fn run(&self, image: &PreheatImage) -> Result<Status, String> {
        self.health().await?;
        let begun = self.preheat(image).await?;
        if begun.state == "SUCCESS" {
            return Ok(begun);
        }
        let checking = async {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let status = self.check_progress(&begun.id).await?;
                match status.state.as_str() {
                    "FAIL" => return Err(format!("with error: {}", status.error)),
                    "SUCCESS" => return Ok(status),
                    _ => {}
                }
            }
        };
        let checked = tokio::time::timeout(DEADLINE, checking).await;
        checked.expect("success or failure in time")
    }
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))
}

fn status_of(job: &JobResponse) -> Status {
    let mut rows = Vec::new();
    let (mut error, mut state) = (String::new(), "FAIL");
    match job.state.as_str() {
        "PENDING" => state = "RUNNING",
        "SUCCESS" => {
            state = "SUCCESS";
            let results = job
                .result
                .job_states
                .iter()
                .flat_map(|state| &state.results);
            for result in results {
                let tasks = result.success_tasks.iter().chain(&result.failure_tasks);
                rows.extend(
                    tasks.map(|task| {
                        [&task.url, &task.hostname, &task.description].map(String::clone)
                    }),
                );
            }
        }
        "FAILURE" => {
            let errors = job
                .result
                .job_states
                .iter()
                .map(|state| state.error.as_str());
            error = errors.collect::<Vec<_>>().join("; ");
        }
        other => error = format!("unknown state: {other}"),
    }
    Status {
        id: job.id.to_string(),
        state: state.to_owned(),
        rows,
        error,
    }
}
