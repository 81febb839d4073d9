//! Jobs that outlive their callers and their supernode.

use std::time::Duration;

use axum::http::Method;
use flotilla_cluster::messages::preheats::{JobState, PreheatEvent};
use flotilla_cluster::preheat_client::{self as preheat, PreheatOptions};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::fakes::{Cluster, DEADLINE, JOIN_TOKEN, Registry};
use crate::harbor_driver::{Auth, Driver};
use crate::triggers::{image, instance};

/// The job once it is in `state`.
pub(crate) async fn wait_for(cluster: &Cluster, id: u64, state: &str) -> Value {
    let path = format!("v1/preheat-jobs/{id}");
    let waiting = async {
        loop {
            let (status, job) = cluster.ask(Method::GET, &path, &Value::Null).await;
            assert_eq!(status, 200, "{job}");
            if job["state"] == state {
                return job;
            }
            let is_open = matches!(job["state"].as_str(), Some("pending" | "running"));
            assert!(is_open, "{job} instead of {state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("in time")
}

/// Until a layer is asked for.
async fn wait_for_reading(registry: &Registry, layers: usize) {
    let waiting = async {
        while registry.lock().whole.len() < layers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_a_restart_with_its_number_and_with_harbor_s_token() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    // Without a login of its own.
    let mut cluster = Cluster::start(None, &listed).await;
    let (image, _) = image(&registry, "v1", 1);
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    registry.lock().stalls = true;
    let begun = harbor.preheat(&image).await.unwrap();
    wait_for_reading(&registry, 1).await;
    let token = image.authorization.as_deref().unwrap();
    assert!(cluster.job_files()[0].contains(token));
    cluster.restart(|| registry.lock().stalls = false).await;
    let id: u64 = begun.id.parse().unwrap();
    let job = wait_for(&cluster, id, "success").await;
    assert_eq!((&job["layers"], &job["failed"]), (&json!(3), &json!(0)));
    let status = harbor.check_progress(&begun.id).await.unwrap();
    assert_eq!((status.state.as_str(), status.rows.len()), ("SUCCESS", 3));
    assert!(!cluster.job_files()[0].contains(token), "forgotten");

    // What is finished stays so, and is not done again.
    let asked = registry.lock().requests;
    cluster.restart(|| ()).await;
    wait_for(&cluster, id, "success").await;
    let next = harbor.preheat(&image).await.unwrap();
    assert!(next.id.parse::<u64>().unwrap() > id);
    wait_for(&cluster, next.id.parse().unwrap(), "success").await;
    let again = registry.lock().requests - asked;
    assert!(
        again > 0 && again < 8,
        "{again} requests of one more job alone"
    );
}

/// The caller reads each layer's event once, those after the restart as well.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_job_follows_it_through_a_restart() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    let (_, digests) = image(&registry, "v1", 1);
    registry.lock().stalls = true;
    let options = PreheatOptions {
        images: vec![format!("{}/team/app:v1", registry.addr)],
        platforms: Vec::new(),
        nodes: None,
        filter_query: Vec::new(),
        supernodes: vec![cluster.supernode.clone()],
        join_token: Some(JOIN_TOKEN.to_owned()),
    };
    let job = preheat::submit(&options).await.unwrap().remove(0);
    let following = tokio::spawn(job.events().map(Result::unwrap).collect::<Vec<_>>());
    wait_for_reading(&registry, 1).await;
    cluster.restart(|| registry.lock().stalls = false).await;
    let events = tokio::time::timeout(DEADLINE, following).await;
    let mut events = events.expect("in time").unwrap();
    let Some(PreheatEvent::Finished(ended)) = events.pop() else {
        panic!("{events:?}");
    };
    assert_eq!(ended.state, JobState::Success, "{ended:?}");
    let mut here: Vec<_> = events
        .iter()
        .map(|event| match event {
            PreheatEvent::Layer { digest, .. } => digest.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected: Vec<_> = digests.iter().map(ToString::to_string).collect();
    here.sort();
    expected.sort();
    assert_eq!(here, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_is_the_same_job_while_it_is_unfinished() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(None, &listed).await;
    let (mut image, _) = image(&registry, "v1", 1);
    registry.lock().stalls = true;
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    let before = instance(&cluster, Driver::DragonflyBefore, Auth::None);
    let first = harbor.preheat(&image).await.unwrap().id;
    wait_for_reading(&registry, 1).await;
    image.authorization = Some(format!("Bearer {}", registry.token()));
    assert_eq!(harbor.preheat(&image).await.unwrap().id, first);
    assert_eq!(before.preheat(&image).await.unwrap().id, first);
    image.scope = Some("all_seed_peers");
    assert_eq!(harbor.preheat(&image).await.unwrap().id, first);
    let platform = json!({"images": ["x"], "platforms": ["linux/amd64"]});
    let mut other = platform.clone();
    other["images"] = json!([format!("{}/team/app:v1", registry.addr)]);
    let (_, other) = cluster.ask(Method::POST, "v1/preheat-jobs", &other).await;
    assert_ne!(other["id"].to_string(), first, "{other}");
    let (_, all) = cluster
        .ask(Method::GET, "v1/preheat-jobs", &Value::Null)
        .await;
    let ids: Vec<String> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].to_string())
        .collect();
    assert_eq!(ids, [other["id"].to_string(), first]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_for_good() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    registry.lock().stalls = true;
    let mut cancelled = Vec::new();
    for (seed, (driver, path)) in (0..).zip([
        (Driver::Dragonfly, "oapi/v1/jobs"),
        (Driver::DragonflyBefore, "preheats"),
        (Driver::Dragonfly, "v1/preheat-jobs"),
    ]) {
        let (image, _) = image(&registry, &format!("v{seed}"), 10 * seed);
        let harbor = instance(&cluster, driver, Auth::None);
        let id = harbor.preheat(&image).await.unwrap().id;
        wait_for_reading(&registry, 1).await;
        let (status, _) = cluster
            .ask(Method::DELETE, &format!("{path}/{id}"), &Value::Null)
            .await;
        assert_eq!(status, 200, "{path}");
        let status = harbor.check_progress(&id).await.unwrap();
        assert_eq!(
            (status.state.as_str(), status.error.as_str()),
            ("FAIL", "cancelled")
        );
        cancelled.push(id);
    }
    cluster.restart(|| registry.lock().stalls = false).await;
    for id in cancelled {
        wait_for(&cluster, id.parse().unwrap(), "cancelled").await;
    }
}
