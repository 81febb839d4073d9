//! Harbor's drivers, its webhook and a registry's notifications against a supernode.

use std::collections::HashSet;

use axum::http::Method;
use flotilla_seeder::PreheatTriggers;
use serde_json::{Value, json};

use crate::fakes::{Cluster, JOIN_TOKEN, Registry, digest_of};
use crate::harbor_driver::{Auth, Driver, Instance, PreheatImage};

const SECRET: &str = "a-login-of-harbor-alone";
const DRIVERS: [Driver; 3] = [Driver::Dragonfly, Driver::DragonflyBefore, Driver::Kraken];

/// An image of two layers and a configuration; what Harbor says of it.
pub(crate) fn image(registry: &Registry, tag: &str, seed: u32) -> (PreheatImage, HashSet<String>) {
    let blobs = [
        registry.blob(seed, 700),
        registry.blob(seed + 1, 3 << 20),
        registry.blob(seed + 2, 200_000),
    ];
    let [config, layers @ ..] = &blobs;
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let described = registry.manifest("team/app", tag, &manifest);
    let image = PreheatImage {
        url: format!("http://{}/v2/team/app/manifests/{tag}", registry.addr),
        authorization: Some(format!("Bearer {}", registry.token())),
        name: "team/app".to_owned(),
        tag: tag.to_owned(),
        digest: described["digest"].as_str().unwrap().to_owned(),
        scope: None,
    };
    let digests = blobs.iter().map(|blob| digest_of(blob).to_string());
    (image, digests.collect())
}

pub(crate) fn instance(cluster: &Cluster, driver: Driver, auth: Auth) -> Instance {
    Instance {
        driver,
        endpoint: cluster.supernode.to_string(),
        auth,
    }
}

fn triggers(logins: &str) -> PreheatTriggers {
    PreheatTriggers {
        logins: logins.parse().unwrap(),
        ..PreheatTriggers::default()
    }
}

fn read_by(registry: &Registry) -> HashSet<String> {
    let whole = registry.lock().whole.clone();
    let read: HashSet<String> = whole.iter().cloned().collect();
    assert_eq!(read.len(), whole.len(), "each layer once");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn every_driver_of_harbor_preheats_an_image() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let mut expected = HashSet::new();
    for (seed, driver) in (0..).zip(DRIVERS) {
        let (image, digests) = image(&registry, &format!("v{seed}"), 10 * seed);
        let instance = instance(&cluster, driver, Auth::None);
        let status = instance.run(&image).await.unwrap();
        assert_eq!(status.state, "SUCCESS", "{driver:?}");
        if driver == Driver::Dragonfly {
            let urls: HashSet<&str> = status.rows.iter().map(|row| row[0].as_str()).collect();
            let blobs = format!("http://{}/v2/team/app/blobs", registry.addr);
            let blobs = digests.iter().map(|digest| format!("{blobs}/{digest}"));
            let blobs: Vec<String> = blobs.collect();
            assert_eq!(urls, blobs.iter().map(String::as_str).collect());
        }
        expected.extend(digests);
        assert_eq!(read_by(&registry), expected, "{driver:?}");
        // Harbor's policies come again and again.
        let again = instance.run(&image).await.unwrap();
        assert_eq!(again.state, "SUCCESS", "{driver:?}");
        assert_eq!(read_by(&registry), expected, "{driver:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harbor_s_token_is_used_and_the_supernode_s_own_login_after_it() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    // Without a login of its own.
    let cluster = Cluster::start(None, &listed).await;
    let (first, digests) = image(&registry, "v1", 1);
    for driver in [Driver::Dragonfly, Driver::DragonflyBefore] {
        let instance = instance(&cluster, driver, Auth::None);
        instance.run(&first).await.unwrap();
        assert_eq!(read_by(&registry), digests);
        let mut expired = first.clone();
        expired.authorization = Some("Bearer expired".to_owned());
        let status = instance.preheat(&expired).await.unwrap();
        let job = format!("/v1/preheat-jobs/{}", status.id);
        let error = instance.run(&expired).await.unwrap_err();
        assert!(
            error.contains("does not take the token that came with the request"),
            "{error}"
        );
        let (_, job) = cluster.ask(Method::GET, &job, &Value::Null).await;
        assert!(
            job["cause"].as_str().unwrap().contains("does not take"),
            "{job}"
        );
    }
    assert!(registry.lock().logins.iter().all(|login| login.2.is_none()));

    let cluster = Cluster::start(Some(&registry), &listed).await;
    let (mut second, _) = image(&registry, "v2", 11);
    second.authorization = Some("Bearer expired".to_owned());
    let instance = instance(&cluster, Driver::Dragonfly, Auth::None);
    instance.run(&second).await.unwrap();
    assert!(registry.lock().logins.iter().any(|login| login.2.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_has_a_cause_that_harbor_shows() {
    let registry = Registry::start().await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let listed = [
        format!("http://{}", registry.addr),
        format!("http://{gone}"),
    ];
    // A registry that was listed without credentials.
    let other = Registry::start().await;
    let listed = [&listed[..], &[format!("http://{}", other.addr)]].concat();
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let (known, _) = image(&registry, "v1", 1);
    let at = |authority: &str, tag: &str| {
        let url = format!("http://{authority}/v2/team/app/manifests/{tag}");
        let digest = format!("sha256:{}", "ab".repeat(32));
        PreheatImage {
            url,
            digest,
            authorization: Some("Bearer wrong".to_owned()),
            ..known.clone()
        }
    };
    for driver in DRIVERS {
        let instance = instance(&cluster, driver, Auth::None);
        for (image, cause) in [
            (
                at(&registry.addr.to_string(), "missing"),
                "404 MANIFEST_UNKNOWN",
            ),
            (at(&other.addr.to_string(), "v1"), "token service"),
            (at(&gone.to_string(), "v1"), "cannot be reached"),
            (
                at("registry.test", "v1"),
                "registry registry.test is not listed",
            ),
        ] {
            let error = instance.run(&image).await.unwrap_err();
            assert!(error.contains(cause), "{driver:?}: {error}");
        }
    }
    assert!(registry.lock().whole.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_understood_is_refused_with_a_reason() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let url = format!("http://{}/v2/team/app/manifests/v1", registry.addr);
    let args = |more: Value| {
        let mut args = json!({"type": "image", "url": url});
        args.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"type": "preheat", "args": args})
    };
    for (path, body, reason) in [
        (
            "oapi/v1/jobs",
            json!({"type": "preheat", "args": null}),
            "args",
        ),
        (
            "oapi/v1/jobs",
            json!({"type": "sync_peers", "args": {}}),
            "preheat",
        ),
        ("oapi/v1/jobs", args(json!({"type": "file"})), "image"),
        (
            "oapi/v1/jobs",
            args(json!({"scope": "some_peers"})),
            "scope",
        ),
        (
            "oapi/v1/jobs",
            args(json!({"url": "http://169.254.169.254/"})),
            "manifests",
        ),
        ("oapi/v1/jobs", args(json!({"url": 5})), "url"),
        (
            "oapi/v1/jobs",
            args(json!({"platform": "linux"})),
            "linux/amd64",
        ),
        ("preheats", json!({"type": "file", "url": url}), "image"),
        (
            "preheats",
            json!({"type": "image", "url": null}),
            "manifests",
        ),
        (
            "registry/notifications",
            json!({"Events": 5}),
            "invalid type",
        ),
        ("webhooks/harbor", json!(5), "invalid type"),
    ] {
        let (status, answer) = cluster.ask(Method::POST, path, &body).await;
        let error = answer["error"].as_str().unwrap().to_lowercase();
        assert!((400..500).contains(&status), "{status} {answer}");
        assert!(error.contains(&reason.to_lowercase()), "{body}: {answer}");
    }
    for path in [
        "oapi/v1/jobs/17",
        "preheats/17",
        "oapi/v1/jobs/x",
        "v1/preheat-jobs/17",
    ] {
        for method in [Method::GET, Method::DELETE] {
            let (status, _) = cluster.ask(method, path, &Value::Null).await;
            assert_eq!(status, 404, "{path}");
        }
    }
    assert_eq!(registry.lock().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_auth_mode_of_harbor_is_checked() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let (image, _) = image(&registry, "v1", 1);
    let user = "a-user-that-is-not-guessed";
    let wrong = || "some-other-login-at-all".to_owned();
    let right = || SECRET.to_owned();
    let cases = [
        (
            format!("bearer {SECRET}"),
            Auth::Bearer(right()),
            Auth::Bearer(wrong()),
        ),
        (
            format!("basic harbor:{SECRET}"),
            Auth::Basic("harbor", right()),
            Auth::Basic("harbor", wrong()),
        ),
        // The key that Harbor's form makes of the password's field.
        (
            format!("harbor-basic {user}:{SECRET}"),
            Auth::Basic("password", right()),
            Auth::Basic("password", wrong()),
        ),
        (
            format!("harbor-basic {user}:{SECRET}"),
            Auth::Basic("username", user.to_owned()),
            Auth::Basic("username", wrong()),
        ),
        (
            format!("header X-Key: {SECRET}"),
            Auth::Custom("X-Key", right()),
            Auth::None,
        ),
        (
            format!("bearer {SECRET}"),
            Auth::Bearer(JOIN_TOKEN.to_owned()),
            Auth::None,
        ),
    ];
    for (logins, right, wrong) in cases {
        let cluster = Cluster::with_triggers(Some(&registry), &listed, triggers(&logins)).await;
        for driver in DRIVERS {
            let status = instance(&cluster, driver, right.clone()).run(&image).await;
            assert_eq!(status.unwrap().state, "SUCCESS", "{driver:?} {logins}");
            let refused = instance(&cluster, driver, wrong.clone())
                .preheat(&image)
                .await;
            let error = refused.unwrap_err();
            assert!(
                error.contains("401") && error.contains("--preheat-auth"),
                "{error}"
            );
            // Only a caller that shows a login learns whether it is right.
            let health = instance(&cluster, driver, wrong.clone()).health().await;
            assert_eq!(
                health.is_err(),
                !matches!(wrong, Auth::None),
                "{driver:?} {logins}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harbor_s_webhook_and_a_registry_s_notifications_preheat_what_is_pushed() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let login = format!("header Authorization: {SECRET}");
    let cluster = Cluster::with_triggers(Some(&registry), &listed, triggers(&login)).await;
    let mut expected = HashSet::new();
    for (seed, kind) in (0..).zip(["default", "cloudevents", "notification"]) {
        let (image, digests) = image(&registry, kind, 10 * seed);
        let digest = &image.digest;
        let resource = json!({"digest": digest, "tag": kind,
            "resource_url": format!("{}/team/app:{kind}", registry.addr)});
        let data = json!({"resources": [resource], "repository": {"date_created": 1_677_053_165,
            "name": "app", "namespace": "team", "repo_full_name": "team/app",
            "repo_type": "private"}});
        let (path, content_type, body) = match kind {
            "default" => (
                "webhooks/harbor",
                "application/json",
                json!({
                "type": "PUSH_ARTIFACT", "occur_at": 1_678_082_303, "operator": "admin",
                "event_data": data}),
            ),
            "cloudevents" => (
                "webhooks/harbor",
                "application/cloudevents+json",
                json!({
                "specversion": "1.0", "id": "4b2f89a6", "requestid": "2eedfab8",
                "source": "/projects/1/webhook/policies/3", "type": "harbor.artifact.pushed",
                "datacontenttype": "application/json", "time": "2023-03-06T06:08:43Z",
                "data": data, "operator": "admin"}),
            ),
            _ => (
                "registry/notifications",
                "application/vnd.docker.distribution.events.v1+json",
                json!({"events": [
                    {"id": "1", "timestamp": "2026-11-23T23:54:56.1Z", "action": "push",
                     "target": {"mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "size": 5, "digest": digest, "length": 5, "repository": "team/app",
                        "url": format!("http://{}/v2/team/app/manifests/{digest}", registry.addr),
                        "tag": kind},
                     "request": {"id": "2", "addr": "10.0.0.1:5", "host": registry.addr.to_string(),
                        "method": "PUT", "useragent": "docker"}, "actor": {}, "source": {}},
                    {"id": "3", "action": "push", "target": {"digest": digest,
                        "repository": "other/app",
                        "url": "http://elsewhere.test/v2/other/app/manifests/1"}},
                ]}),
            ),
        };
        let url = cluster.supernode.join(path).unwrap();
        let post = || {
            reqwest::Client::new()
                .post(url.clone())
                .header("Content-Type", content_type)
                .body(body.to_string())
        };
        let refused = post().send().await.unwrap();
        assert_eq!(refused.status(), 401, "{kind}");
        let reply = post().header("Authorization", SECRET).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{kind}");
        let answer: Value = reply.json().await.unwrap();
        let jobs = answer["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{answer}");
        crate::jobs::wait_for(&cluster, jobs[0].as_u64().unwrap(), "success").await;
        expected.extend(digests);
        assert_eq!(read_by(&registry), expected, "{kind}");
    }
}
