use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

fn node(number: u8) -> TakeOrders {
    TakeOrders {
        node: format!("node-{number}"),
        peer_id: PeerId::from_bytes([number; 20]),
    }
}

fn layer(number: u8) -> OrderedLayer {
    let digest = format!("sha256:{}", format!("{number:02x}").repeat(32));
    OrderedLayer {
        url: format!("http://r.test/v2/a/blobs/{digest}"),
        content: digest.parse().unwrap(),
    }
}

fn outcome(node: &TakeOrders, layer: &OrderedLayer, error: Option<&str>) -> OrderOutcome {
    OrderOutcome {
        node: node.node.clone(),
        peer_id: node.peer_id,
        content: layer.content.clone(),
        error: error.map(str::to_owned),
    }
}

fn deliver(
    orders: &Orders,
    layers: &[OrderedLayer],
    nodes: &[&TakeOrders],
) -> tokio::task::JoinHandle<BTreeMap<String, Option<String>>> {
    let (orders, layers) = (orders.clone(), layers.to_vec());
    let nodes = nodes.iter().map(|node| node.node.clone()).collect();
    tokio::spawn(async move { orders.deliver(JobId(7), layers, nodes).await })
}

async fn next(visit: &mut Visit) -> Option<OrderEvent> {
    let next = tokio::time::timeout(DEADLINE, visit.events.recv());
    next.await.expect("in time")
}

#[tokio::test]
async fn a_node_that_comes_back_is_told_what_it_lacks() {
    let orders = Orders::new();
    let (one, two, layers) = (node(1), node(2), [layer(1), layer(2)]);
    let mut first = orders.enter(one.clone()).unwrap();
    let mut bystander = orders.enter(two.clone()).unwrap();
    let delivery = deliver(&orders, &layers, &[&one]);
    let all = OrderEvent::Layers {
        job: 7,
        layers: layers.to_vec(),
    };
    assert_eq!(next(&mut first).await, Some(all));
    assert!(orders.note(JobId(7), outcome(&one, &layers[0], None)));
    // It asks for nothing of others, and others for nothing of it.
    let asked = |node: &TakeOrders, layer: &OrderedLayer| OpenOrdered {
        node: node.node.clone(),
        peer_id: node.peer_id,
        content: layer.content.clone(),
    };
    assert!(orders.ordered(JobId(7), &asked(&one, &layers[1])).is_some());
    assert!(orders.ordered(JobId(7), &asked(&one, &layer(3))).is_none());
    assert!(orders.ordered(JobId(8), &asked(&one, &layers[1])).is_none());
    assert!(orders.ordered(JobId(7), &asked(&two, &layers[1])).is_none());
    let as_other = TakeOrders {
        node: one.node.clone(),
        peer_id: two.peer_id,
    };
    assert!(
        orders
            .ordered(JobId(7), &asked(&as_other, &layers[1]))
            .is_none()
    );
    assert!(!orders.note(JobId(7), outcome(&as_other, &layers[1], None)));
    drop(first);
    let again = TakeOrders {
        peer_id: PeerId::from_bytes([9; 20]),
        ..one
    };
    let mut second = orders.enter(again.clone()).unwrap();
    let rest = OrderEvent::Layers {
        job: 7,
        layers: vec![layers[1].clone()],
    };
    assert_eq!(next(&mut second).await, Some(rest));
    assert!(orders.note(JobId(7), outcome(&again, &layers[1], None)));
    let ended = tokio::time::timeout(DEADLINE, delivery).await.unwrap();
    assert_eq!(
        ended.unwrap(),
        BTreeMap::from([("node-1".to_owned(), None)])
    );
    assert!(bystander.events.try_recv().is_err());
}

#[tokio::test]
async fn nodes_that_fail_or_are_gone_are_told_of_and_not_waited_for() {
    let orders = Orders::giving_up_after(Duration::from_millis(50));
    let (one, two, three, layers) = (node(1), node(2), node(3), [layer(1), layer(2)]);
    let _one = orders.enter(one.clone()).unwrap();
    let leaving = orders.enter(two.clone()).unwrap();
    let delivery = deliver(&orders, &layers, &[&one, &two, &three]);
    while !orders.note(JobId(7), outcome(&one, &layers[0], Some("disk full"))) {
        tokio::task::yield_now().await;
    }
    orders.note(JobId(7), outcome(&one, &layers[1], None));
    orders.note(JobId(7), outcome(&two, &layers[1], None));
    drop(leaving);
    let ended = tokio::time::timeout(DEADLINE, delivery).await.unwrap();
    let ended = ended.unwrap();
    let error = |node: &str| ended[node].clone().unwrap();
    assert!(error("node-1").ends_with("disk full"), "{ended:?}");
    assert!(
        error("node-2").contains("1 layers are missing"),
        "{ended:?}"
    );
    assert!(
        error("node-3").contains("2 layers are missing"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_delivery_that_is_dropped_is_withdrawn() {
    let orders = Orders::new();
    let one = node(1);
    let mut visit = orders.enter(one.clone()).unwrap();
    let delivery = deliver(&orders, &[layer(1)], &[&one]);
    assert!(matches!(
        next(&mut visit).await,
        Some(OrderEvent::Layers { .. })
    ));
    delivery.abort();
    assert_eq!(
        next(&mut visit).await,
        Some(OrderEvent::Withdrawn { job: 7 })
    );
    assert!(!orders.note(JobId(7), outcome(&one, &layer(1), None)));
    // A later visit of the same peer takes the place of this one.
    let _again = orders.enter(one).unwrap();
    assert_eq!(next(&mut visit).await, None);
    drop(visit);
    assert_eq!(orders.called(&"node-*".parse().unwrap()).len(), 1);
    assert!(orders.called(&"web-*".parse().unwrap()).is_empty());
}
