//! Terms that end while a session goes on: no byte is under two terms, and none under neither.

use qlink_types::units::{Bytes, PackageEpoch};
use serde_json::json;

use crate::support::{PROVIDER, World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_top_up_splits_a_running_session_over_both_terms() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let terms = world.terms(content, 1_000, 1_000, 100);
    let package = world.buy(&terms).await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 30);
    world.settled(package, 30).await;

    let request = json!({
        "bytes": "500", "reward_units": "1000", "operator_units": "0",
        "basestation_units": "0", "gateway_units": "0", "valid_until": terms.valid_until,
    });
    let path = format!("/v1/packages/{package}/topup");
    world.transact(&path, PROVIDER, request).await;
    until("the next terms run", async || {
        let answer = world.node.package(&package).await.unwrap().unwrap();
        answer.ledger.package_epoch == PackageEpoch::new(1)
    })
    .await;
    world.plane.deliver(session, 80);
    world.settled(package, 80).await;
    assert_eq!(world.close(session).await.status, 200);

    let ledger = world.node.package(&package).await.unwrap().unwrap().ledger;
    assert_eq!(ledger.current.bytes, Bytes::new(970 + 500));
    assert_eq!(ledger.current.used, Bytes::new(50));
    assert_eq!(ledger.totals.used, Bytes::new(80));
    // 30 of 1,000 units per 1,000 bytes, then floor(1,970 * 50 / 1,470).
    assert_eq!(ledger.totals.reward_paid.get(), 30 + 67);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_closes_while_its_package_closes_counts_once() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 60);

    let path = format!("/v1/packages/{package}/close");
    let (_, closed) = tokio::join!(
        world.transact(&path, PROVIDER, json!({})),
        world.close(session)
    );
    until("the package is closed", async || {
        let answer = world.node.package(&package).await.unwrap().unwrap();
        answer.ledger.state == qlink_types::package::PackageState::Closed
    })
    .await;

    assert_eq!(closed.status, 200, "{}", closed.text);
    let ledger = world.node.package(&package).await.unwrap().unwrap().ledger;
    assert_eq!(ledger.totals.used, Bytes::new(60));
    assert_eq!(ledger.totals.reward_paid.get(), 60);
}
