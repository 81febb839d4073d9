//! Preheat jobs, as the statistics tell of them.

use axum::http::Method;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::fakes::{Cluster, DEADLINE, Registry};
use crate::harbor_driver::{Auth, Driver};
use crate::jobs::wait_for;
use crate::schema::faults;
use crate::triggers::{image, instance};

/// Would be something else than text, were it not shown as text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

async fn get(cluster: &Cluster, path: &str) -> Value {
    let (status, answer) = cluster.ask(Method::GET, path, &Value::Null).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn submit(cluster: &Cluster, request: Value) -> u64 {
    let (status, job) = cluster.ask(Method::POST, "v1/preheat-jobs", &request).await;
    assert_eq!(status, 200, "{job}");
    job["id"].as_u64().unwrap()
}

fn ids(list: &Value) -> Vec<u64> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|row| row["id"].as_u64().unwrap()).collect()
}

/// A job that ends well, with a token that was lent, and one that no node takes.
async fn two_jobs(registry: &Registry, cluster: &Cluster) -> [u64; 2] {
    let (image, _) = image(registry, "v1", 1);
    let harbor = instance(cluster, Driver::Dragonfly, Auth::None);
    let well: u64 = harbor.preheat(&image).await.unwrap().id.parse().unwrap();
    wait_for(cluster, well, "success").await;
    let name = format!("{}/team/app", registry.addr);
    let images = [format!("{name}:v1"), format!("{name}:{}", "x".repeat(100))];
    let failed = submit(cluster, json!({"images": images, "nodes": HOSTILE})).await;
    wait_for(cluster, failed, "failure").await;
    [well, failed]
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_told_of_as_the_openapi_document_says_and_without_what_was_lent() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let [well, failed] = two_jobs(&registry, &cluster).await;
    let document = get(&cluster, "api/v1/openapi.json").await;
    for (path, id) in [
        ("/api/v1/jobs", String::new()),
        ("/api/v1/jobs/{id}", well.to_string()),
        ("/api/v1/jobs/{id}", failed.to_string()),
    ] {
        let described = &document["paths"][path]["get"];
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        let asked = path.replace("{id}", &id);
        let answer = get(&cluster, &asked).await;
        let wrong = faults(&document, schema, &answer, path);
        assert!(wrong.is_empty(), "{wrong:#?}");
        let text = answer.to_string();
        assert!(
            !text.contains("token-") && !text.contains("Bearer"),
            "{text}"
        );
        let parameters = described["parameters"].as_array().unwrap().iter();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            for value in parameter["schema"]["enum"].as_array().into_iter().flatten() {
                let (name, value) = (parameter["name"].as_str().unwrap(), value.as_str().unwrap());
                get(&cluster, &format!("{asked}?{name}={value}")).await;
                let other = format!("{asked}?{name}={value}x");
                let (status, _) = cluster.ask(Method::GET, &other, &Value::Null).await;
                assert_eq!(status, 400, "{other}");
            }
        }
    }
    let job = get(&cluster, &format!("api/v1/jobs/{well}")).await;
    let outcomes = job["outcomes"].as_array().unwrap();
    assert_eq!(
        (&job["state"], &job["layers"], outcomes.len()),
        (&json!("success"), &json!(3), 3)
    );
    assert!(outcomes.iter().all(|outcome| outcome["error"].is_null()));
    let digests = registry.lock().blobs.keys().cloned().collect::<Vec<_>>();
    for digest in digests {
        assert!(outcomes.iter().any(|outcome| outcome["digest"] == digest));
    }
    let job = get(&cluster, &format!("api/v1/jobs/{failed}")).await;
    assert_eq!(
        (&job["nodes"], &job["failed"]),
        (&json!(HOSTILE), &json!(1))
    );
    let first = &job["outcomes"][0];
    assert!(
        first["error"]
            .as_str()
            .unwrap()
            .contains("manifest unknown"),
        "{job}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_searched_sorted_counted_and_streamed() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let [well, failed] = two_jobs(&registry, &cluster).await;
    registry.lock().stalls = true;
    image(&registry, "v2", 10);
    let name = format!("{}/team/app:v2", registry.addr);
    let running = submit(&cluster, json!({"images": [name]})).await;
    let reading = async {
        loop {
            let job = get(&cluster, &format!("api/v1/jobs/{running}")).await;
            // How many there are to be is known before they are here.
            if job["wanted_layers"] == 3 && job["layers"] == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let reading = tokio::time::timeout(DEADLINE, reading).await;
    reading.expect("its layers are counted");
    // Rows may be half a second old.
    let counting = async {
        while get(&cluster, "api/v1/totals").await["unfinished_jobs"] != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let counting = tokio::time::timeout(DEADLINE, counting).await;
    counting.expect("one job is unfinished");
    for (query, expected) in [
        ("", vec![well, failed, running]),
        ("sort=created&order=desc", vec![running, failed, well]),
        ("sort=failed&order=desc&per_page=1", vec![failed]),
        ("q=app:V2", vec![running]),
        ("q=manifest+unknown", vec![failed]),
        ("q=onerror", vec![failed]),
        (&format!("q={well}"), vec![well]),
        ("q=nothing", vec![]),
    ] {
        let list = get(&cluster, &format!("api/v1/jobs?{query}")).await;
        assert_eq!(ids(&list), expected, "{query}");
    }
    for (query, of_view) in [
        (
            "view=jobs&sort=created&order=desc&per_page=2",
            json!([running, failed]),
        ),
        (&format!("view=job&id={failed}"), json!(failed)),
    ] {
        let url = cluster.supernode.join(&format!("api/v1/events?{query}"));
        let client = reqwest::Client::new().get(url.unwrap());
        let mut parts = client.send().await.unwrap().bytes_stream();
        let first = tokio::time::timeout(DEADLINE, parts.next()).await.unwrap();
        let first = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
        let event = first.trim().strip_prefix("data: ").unwrap();
        let event: Value = serde_json::from_str(event).unwrap();
        let shown = match event["view"]["items"].is_array() {
            true => json!(ids(&event["view"])),
            false => event["view"]["id"].clone(),
        };
        assert_eq!(shown, of_view, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preheated_swarm_has_the_name_of_its_image() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let (image, _) = image(&registry, "v1", 1);
    let name = format!("{}/team/app", registry.addr);
    let by_digest = format!("{name}@{}", image.digest);
    let job = submit(&cluster, json!({"images": [by_digest]})).await;
    wait_for(&cluster, job, "success").await;
    let swarm = async |wanted: Value| {
        let looking = async {
            loop {
                let list = get(&cluster, "api/v1/swarms?sort=size&order=desc").await;
                let row = &list["items"][0];
                if row["images"] == wanted && row["name"] == name {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let looking = tokio::time::timeout(DEADLINE, looking).await;
        looking.unwrap_or_else(|_| panic!("no swarm of {wanted}"));
    };
    swarm(json!([])).await;
    let job = submit(&cluster, json!({"images": [image.url]})).await;
    wait_for(&cluster, job, "success").await;
    swarm(json!([format!("{name}:v1")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_finished_jobs_are_shown_in_small_answers() {
    const JOBS: u64 = 10_000;
    let mut cluster = Cluster::start(None, &[]).await;
    let (dir, now) = (cluster.jobs_dir(), std::time::SystemTime::now());
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let write = || {
        for id in 1..=JOBS {
            let images: Vec<String> = (0..256).map(|n| format!("reg.test/a{n}:{id}")).collect();
            let job = json!({"id": id, "request": {"images": images}, "state": "failure",
                "cause": "c".repeat(3000), "created": now, "updated": now, "layers": 3, "bytes": 7,
                "failed": 1, "outcomes": []});
            std::fs::write(dir.join(format!("{id}.json")), job.to_string()).unwrap();
        }
    };
    cluster.restart(write).await;
    let first = get(&cluster, "api/v1/jobs?per_page=100000&order=desc").await;
    assert_eq!(
        (&first["total"], &first["per_page"]),
        (&json!(JOBS), &json!(200))
    );
    assert_eq!(first["items"][0]["id"], JOBS);
    let row = &first["items"][0];
    let (images, cause) = (row["images"].as_array().unwrap(), row["cause"].as_str());
    assert_eq!((images.len(), &row["image_count"]), (8, &json!(256)));
    assert_eq!(cause.unwrap().len(), 255);
    assert!(first.to_string().len() < 200_000);
    // Images are found that their rows do not name.
    let found = get(&cluster, "api/v1/jobs?q=a255:7777").await;
    assert_eq!(ids(&found), [7777]);
    let job = get(&cluster, "api/v1/jobs/7777").await;
    assert_eq!(job["images"].as_array().unwrap().len(), 256);
    assert_eq!(job["cause"].as_str().unwrap().len(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_no_job() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    for name in [
        HOSTILE,
        "a/b\u{202e}c",
        "https://me:secret@h.test/v2/a/manifests/1",
    ] {
        let request = json!({"images": [name]});
        let (status, _) = cluster.ask(Method::POST, "v1/preheat-jobs", &request).await;
        assert_eq!(status, 400, "{name}");
    }
    assert_eq!(get(&cluster, "api/v1/jobs").await["total"], 0);
}
