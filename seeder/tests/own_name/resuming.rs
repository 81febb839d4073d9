//! Layers whose callers may not have the rest any longer: their tokens expired on the way.

use flotilla_client::ContentRequest;
use futures_util::StreamExt as _;

use crate::fakes::{Cluster, DEADLINE, Registry, digest_of};

/// What comes of a layer that breaks off when the token of its only caller expires.
async fn outcome(has_credentials: bool) -> (Registry, Result<(), String>) {
    let registry = Registry::start().await;
    let digest = digest_of(&registry.blob(1, 4 << 20));
    let listed = [format!("http://{}", registry.addr)];
    let listed = if has_credentials { &listed[..] } else { &[] };
    let mut cluster = Cluster::start(has_credentials.then_some(&registry), listed).await;
    registry.lock().breaks = true;
    let node = cluster.node().await;
    let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.addr);
    let token = format!("Bearer {}", registry.token());
    let layer = node
        .open(ContentRequest {
            url: url.parse().unwrap(),
            headers: vec![("Authorization".to_owned(), token)],
            digest: Some(digest.clone()),
            filter_query: Vec::new(),
        })
        .await
        .unwrap();
    let completed = tokio::time::timeout(DEADLINE, layer.completed()).await;
    let completed = completed.expect("an outcome in time");
    if completed.is_ok() {
        let parts = layer.read(0..layer.length()).map(Result::unwrap);
        let bytes = parts.collect::<Vec<_>>().await.concat();
        assert!(bytes == registry.lock().blobs[&digest.to_string()]);
    }
    (registry, completed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_callers_tokens_have_expired_goes_on_in_the_supernode_s_own_name() {
    let (registry, completed) = outcome(true).await;
    completed.unwrap();
    let content = registry.lock();
    assert_eq!(content.whole.len(), 1, "only the rest is read again");
    assert_eq!(content.logins.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_of_its_own_it_ends() {
    let (registry, completed) = outcome(false).await;
    let reason = completed.unwrap_err();
    assert!(reason.contains("401"), "{reason}");
    assert!(registry.lock().logins.is_empty());
}
