//! Sessions: who gets one, what is reserved for it, and what a refused one leaves behind: nothing.

use qlink_api::session::OpenSessionRequest;
use qlink_types::ids::{BaseStationId, PackageId, Teid};
use qlink_types::package::Audience;
use qlink_types::units::TimeMs;
use serde_json::json;

use crate::support::{PROVIDER, STATION, World, account, key, list, now, until};

async fn refused(world: &World, request: &OpenSessionRequest) -> (u16, String) {
    let before = world.plane.sessions();
    let body = serde_json::to_value(request).unwrap();
    let refusal = world.http.post("/v1/sessions", &body).await.refusal();
    assert_eq!(world.plane.sessions(), before, "{refusal:?} left a session");
    refusal
}

fn conflict(code: &str) -> (u16, String) {
    (409, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_signed_request_opens_one_session_also_under_another_key() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let request = serde_json::to_value(world.open_request(package, 1)).unwrap();

    let (first, second) = tokio::join!(
        world.http.post("/v1/sessions", &request),
        world.http.post("/v1/sessions", &request),
    );
    let third = world.http.post("/v1/sessions", &request).await;

    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(first.json(), second.json());
    assert_eq!(first.json(), third.json());
    assert_eq!(first.json()["reserved_bytes"], "100");
    assert_eq!(world.plane.sessions(), 1);
    let listed = world.http.get("/v1/sessions").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_that_do_not_hold_open_nothing() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let good = world.open_request(package, 1);

    let mut forged = good.clone();
    forged.signature = forged.open.sign(&key(PROVIDER), &world.chain);
    let mut altered = good.clone();
    altered.open.downlink_teid = Teid::new(9);
    let mut swapped = good.clone();
    swapped.acceptance = world.open_request(package, 2).acceptance;
    let mut taken = good.clone();
    taken.acceptance = None;
    let mut foreign = world.open_request(package, 3).acceptance.unwrap();
    foreign.acceptance.viewer = world.viewer(package, 4).viewer();
    let foreign = world.request_with(Some(foreign), 3);
    let mut late = good.clone();
    late.open.valid_until = TimeMs::new(1);
    late.signature = late.open.sign(&key(STATION), &world.chain);
    let mut stranger = good.clone();
    stranger.open.basestation = BaseStationId::new([9; 16]);
    let mut nowhere = good;
    nowhere.peer = "somewhere".to_owned();

    assert_eq!(
        refused(&world, &forged).await,
        (403, "bad_signature".to_owned())
    );
    assert_eq!(
        refused(&world, &altered).await,
        (403, "bad_signature".to_owned())
    );
    assert_eq!(
        refused(&world, &swapped).await,
        (400, "acceptance_mismatch".to_owned())
    );
    assert_eq!(
        refused(&world, &taken).await,
        (400, "acceptance_mismatch".to_owned())
    );
    assert_eq!(
        refused(&world, &foreign).await,
        (403, "bad_signature".to_owned())
    );
    assert_eq!(refused(&world, &late).await, conflict("request_expired"));
    assert_eq!(
        refused(&world, &stranger).await,
        (404, "unknown_basestation".to_owned())
    );
    assert_eq!(
        refused(&world, &nowhere).await,
        (400, "bad_peer".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_viewers_of_the_audience_are_sponsored() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.next_package().await;
    let mut terms = world.terms(content, 1_000, 1_000, 100);
    terms.audience = Audience::Keys {
        keys: list(vec![world.viewer(package, 1).viewer()]),
    };
    assert_eq!(world.buy(&terms).await, package);

    let outside = refused(&world, &world.open_request(package, 2)).await;
    world.open(package, 1).await;

    assert_eq!(outside, conflict("viewer_not_in_audience"));
    assert_eq!(world.plane.sessions(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_that_are_unknown_expired_or_elsewhere_sponsor_nothing() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let mut short = world.terms(content, 1_000, 1_000, 100);
    short.valid_until = now().plus_millis(1_500);
    let short = world.buy(&short).await;
    let mut elsewhere = world.terms(content, 1_000, 1_000, 100);
    let other = register_other_gateway(&world).await;
    elsewhere.gateways = list(vec![other]);
    let elsewhere = world.buy(&elsewhere).await;

    let unknown = refused(&world, &world.open_request(PackageId::new([9; 16]), 1)).await;
    let unlisted = refused(&world, &world.open_request(elsewhere, 1)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_600)).await;
    let expired = refused(&world, &world.open_request(short, 1)).await;

    assert_eq!(unknown, (404, "unknown_package".to_owned()));
    assert_eq!(unlisted, conflict("gateway_not_listed"));
    // The chain may have begun to close it by itself in the meantime.
    let codes = ["package_expired", "package_closing", "package_closed"];
    assert!(
        expired.0 == 409 && codes.contains(&expired.1.as_str()),
        "{expired:?}"
    );
}

async fn register_other_gateway(world: &World) -> qlink_types::ids::GatewayId {
    use qlink_types::ids::{GatewayId, Hash32};
    use qlink_types::transaction::{PartyKind, Sender, Transaction, TxBody, prove_key};
    let owner = account(PROVIDER);
    let nonce = world.node.account(&owner).await.unwrap().nonce;
    let transaction = Transaction {
        chain: world.chain,
        sender: Sender::Account { account: owner },
        nonce,
        max_fee: qlink_types::units::Units::new(1_000_000),
        valid_until: TimeMs::ZERO,
        body: TxBody::RegisterParty {
            party_kind: PartyKind::Gateway,
            key: key(50).public(),
            key_proof: prove_key(&key(50), &world.chain, &owner),
            asset: Hash32::ZERO,
            name: qlink_types::codec::Text::default(),
        },
    };
    let signed = transaction.sign(&key(PROVIDER));
    world
        .node
        .submit_and_wait_final(&signed, crate::support::WITHIN)
        .await
        .unwrap();
    GatewayId::derive(&owner, nonce)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_eleventh_viewer_is_refused_and_closing_returns_the_remainder() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let mut sessions = Vec::new();
    for n in 0..10 {
        sessions.push(world.open(package, n).await);
    }

    let eleventh = refused(&world, &world.open_request(package, 10)).await;
    // One viewer stops after 40 of its 100 bytes: 60 are free again, too few for a whole view.
    world.plane.deliver(sessions[0], 40);
    let closed = world.close(sessions[0]).await;
    let still = refused(&world, &world.open_request(package, 11)).await;
    // Another one never began.
    world.close(sessions[1]).await;
    world.open(package, 12).await;

    assert_eq!(eleventh, conflict("package_exhausted"));
    assert_eq!(closed.status, 200, "{}", closed.text);
    assert_eq!(closed.json()["state"], "closed");
    assert_eq!(closed.json()["classes"]["verified_unique"], "40");
    assert_eq!(still, conflict("package_exhausted"));
    world.settled(package, 40).await;
    // Nine sessions with 100 each; what the closed one used is settled.
    until("only open sessions reserve", async || {
        let path = format!("/v1/packages/{package}");
        let view = world.http.get(&path).await.json();
        view["used_bytes"] == "40" && view["reserved_bytes"] == "900"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_view_is_not_refused_while_the_one_before_it_settles() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;

    // The chain shows the first view's bytes as used a moment before the gateway has heard that its
    // own batch is final; they must not be taken for another gateway's. Several packages, because
    // the moment is short.
    for n in 0..8 {
        let package = world.buy(&world.terms(content, 200, 200, 100)).await;
        let session = world.open(package, 2 * n).await;
        let last = serde_json::to_value(world.open_request(package, 2 * n + 1)).unwrap();
        world.plane.deliver(session, 100);
        world.settled(package, 100).await;
        let answer = world.http.post("/v1/sessions", &last).await;
        assert_eq!(answer.status, 201, "package {n}: {}", answer.text);
        let third = refused(&world, &world.open_request(package, 2 * n + 2)).await;
        assert_eq!(third, conflict("package_exhausted"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_cannot_exceed_its_cap_by_a_second_session() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    world.open(package, 1).await;

    let mut again = world.open_request(package, 1);
    again.open.nonce = qlink_types::ids::Hash32::new([77; 32]);
    again.signature = again.open.sign(&key(STATION), &world.chain);

    assert_eq!(
        refused(&world, &again).await,
        conflict("viewer_cap_exceeded")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_package_sponsors_nobody_and_running_sessions_are_settled_exactly() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 70);

    let path = format!("/v1/packages/{package}/close");
    world.transact(&path, PROVIDER, json!({})).await;
    let closing = refused(&world, &world.open_request(package, 2)).await;
    until("the package is closed", async || {
        let view = world
            .http
            .get(&format!("/v1/packages/{package}"))
            .await
            .json();
        view["state"] == "closed"
    })
    .await;
    let closed = refused(&world, &world.open_request(package, 3)).await;

    assert!(
        ["package_closing", "package_closed"].contains(&closing.1.as_str()),
        "{closing:?}"
    );
    assert_eq!(closed, conflict("package_closed"));
    let view = world
        .http
        .get(&format!("/v1/packages/{package}"))
        .await
        .json();
    assert_eq!(view["used_bytes"], "70");
    assert_eq!(view["moved"]["units"], "70");
    // What nobody used: 930 of the reward, and the carriage of 930 of 1,000 bytes.
    assert_eq!(
        view["refund"]["units"],
        json!((930 + 4_650_000).to_string())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gives_a_reason_for_every_byte_and_its_bytes_become_units() {
    let world = World::start().await;
    let content = world.film(&[7; 1_000]).await;
    let package = world
        .buy(&world.terms(content, 10_000, 10_000, 1_000))
        .await;
    let session = world.open(package, 1).await;

    world.plane.deliver(session, 700);
    world.settled(package, 700).await;

    let view = world
        .http
        .get(&format!("/v1/sessions/{session}"))
        .await
        .json();
    let sum: u64 = view["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["bytes"].as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(json!(sum.to_string()), view["classes"]["wire_payload"]);
    let ratio = world
        .http
        .get(&format!("/v1/packages/{package}/ratio"))
        .await
        .json();
    assert_eq!(ratio["used_bytes"], "700");
    assert_eq!(ratio["moved"]["units"], "700");
    let rules = world.plane.rules(session).unwrap();
    assert_eq!(rules.sponsor.unwrap().limit.get(), 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_basestations_own_receipt_closes_its_session() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let (first, second) = (world.open(package, 1).await, world.open(package, 2).await);
    let good = world.close(first).await.json();
    let receipts = good["receipts"].as_array().unwrap();
    let stations = receipts
        .iter()
        .find(|row| row["signer"] == "base_station")
        .unwrap();

    let path = format!("/v1/sessions/{second}/close");
    let foreign = json!({"basestation_receipt": stations});
    let other_session = world.http.post(&path, &foreign).await;
    let gateways = json!({"basestation_receipt": receipts[0]});
    let wrong_signer = world.http.post(&path, &gateways).await;
    let unknown = format!(
        "/v1/sessions/{}/close",
        qlink_types::ids::SessionId::new([9; 16])
    );
    let unknown = world.http.post(&unknown, &foreign).await;

    assert_eq!(other_session.refusal(), (403, "bad_receipt".to_owned()));
    assert_eq!(wrong_signer.refusal(), (403, "bad_receipt".to_owned()));
    assert_eq!(unknown.refusal(), (404, "not_found".to_owned()));
    let view = world
        .http
        .get(&format!("/v1/sessions/{second}"))
        .await
        .json();
    assert_eq!(view["state"], "open");
}
