//! Quotes and submissions: how money moves, and every way in which it does not.

use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::ids::{ContentId, PackageId};
use qlink_types::outcome::Status;
use qlink_types::signature::Signature;
use qlink_types::transaction::{SignedTransaction, Transaction};
use qlink_types::units::{Bytes, Units};
use serde_json::{Value, json};

use crate::support::{POOR, PROVIDER, World, account, key, sign};

async fn balance(world: &World, n: u8) -> u64 {
    let path = format!("/v1/accounts/{}", account(n));
    let view = world.http.get(&path).await.json();
    view["balance"]["units"].as_str().unwrap().parse().unwrap()
}

async fn transfer_quote(world: &World, from: u8, units: u64) -> Value {
    let request =
        json!({"account": account(from), "to": account(POOR), "units": units.to_string()});
    let answer = world.http.post("/v1/transfers/quote", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_signed_and_submitted_becomes_final_and_moves_exactly_its_sum() {
    let world = World::start().await;
    let before = balance(&world, PROVIDER).await;
    let quote = transfer_quote(&world, PROVIDER, 500).await;
    assert_eq!(
        quote["deposit"],
        json!({"asset": "QLC", "scale": 8, "units": "500"})
    );
    let fee: u64 = quote["fee"]["units"].as_str().unwrap().parse().unwrap();

    let body = json!({"transaction": sign(&quote, &key(PROVIDER))});
    let submitted = world.http.post("/v1/transfers", &body).await;

    assert_eq!(submitted.status, 202, "{}", submitted.text);
    let submitted = submitted.json();
    assert_eq!(submitted["state"], "pending");
    assert_eq!(submitted["transaction"], quote["transaction"]);
    let id = submitted["transaction"].as_str().unwrap();
    world.final_answer(id.parse().unwrap()).await;
    let view = world
        .http
        .get(&format!("/v1/transactions/{id}"))
        .await
        .json();
    assert_eq!(
        (&view["state"], &view["status"]),
        (&json!("final"), &json!("accepted"))
    );
    assert_eq!(balance(&world, POOR).await, 500);
    assert_eq!(balance(&world, PROVIDER).await, before - 500 - fee);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_cannot_hold_get_a_reason_and_move_nothing() {
    let world = World::start().await;
    let quote = transfer_quote(&world, PROVIDER, 500).await;
    let poor = transfer_quote(&world, POOR, 500).await;
    let notes = poor["notes"].to_string();
    assert!(notes.contains("insufficient_funds"), "{notes}");
    let before = balance(&world, PROVIDER).await;

    let signed = sign(&quote, &key(PROVIDER));
    let mut forged = SignedTransaction::from_bytes(&hex::decode(&signed).unwrap()).unwrap();
    forged.signature = Signature::new([7; 64]);
    let cases = [
        (sign(&quote, &key(POOR)), 401, "bad_signature"),
        (hex::encode(forged.to_bytes()), 401, "bad_signature"),
        (sign(&poor, &key(POOR)), 422, "insufficient_funds"),
        ("xyz".to_owned(), 400, "bad_parameter"),
        (String::new(), 400, "bad_parameter"),
        (signed[..signed.len() - 2].to_owned(), 400, "bad_parameter"),
        (format!("{signed}00"), 400, "bad_parameter"),
    ];
    for (transaction, status, code) in cases {
        let body = json!({"transaction": transaction});
        let answer = world.http.post("/v1/transfers", &body).await;
        assert_eq!(
            answer.refusal(),
            (status, code.to_owned()),
            "{}",
            answer.text
        );
    }
    let other = world
        .http
        .post("/v1/packages", &json!({"transaction": signed}))
        .await;

    assert_eq!(other.refusal(), (400, "wrong_transaction_type".to_owned()));
    assert_eq!(balance(&world, PROVIDER).await, before);
    assert_eq!(balance(&world, POOR).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_over_an_unknown_content_is_refused() {
    let world = World::start().await;
    let unknown = ContentId::new([9; 32]);
    let terms = world.terms(unknown, 1_000, 1_000, 100);
    let request = json!({"account": account(PROVIDER), "terms": terms});
    let quote = world.http.post("/v1/packages/quote", &request).await.json();
    assert!(
        quote["notes"].to_string().contains("holds no copy"),
        "{quote}"
    );

    let body = json!({"transaction": sign(&quote, &key(PROVIDER))});
    let answer = world.http.post("/v1/packages", &body).await;

    assert_eq!(answer.refusal(), (422, "unknown_content".to_owned()));
    let packages = world.http.get("/v1/packages").await.json();
    assert_eq!(packages["data"], json!([]));
    let registration = json!({"account": account(PROVIDER), "content": unknown, "media_type": ""});
    let answer = world.http.post("/v1/contents/quote", &registration).await;
    assert_eq!(answer.refusal(), (404, "not_found".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_the_same_content_again_is_refused_and_names_the_first_owner() {
    let world = World::start().await;
    let content = world.film(b"a film").await;

    let request =
        json!({"account": account(PROVIDER), "content": content, "media_type": "video/mp4"});
    let quote = world.http.post("/v1/contents/quote", &request).await.json();
    let body = json!({"transaction": sign(&quote, &key(PROVIDER))});
    let answer = world.http.post("/v1/contents", &body).await;

    let notes = quote["notes"].to_string();
    assert!(notes.contains(&account(PROVIDER).to_string()), "{notes}");
    // Either the pool refuses it at once, or the chain answers with the reason.
    if answer.status == 202 {
        let id = answer.json()["transaction"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let receipt = world.final_answer(id).await.receipt.unwrap();
        assert_eq!(receipt.status, Status::DuplicateContent);
    } else {
        assert_eq!(answer.refusal(), (409, "duplicate_content".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bought_package_shows_its_terms_and_an_empty_equation() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let terms = world.terms(content, 1_000, 1_000, 100);

    let package = world.buy(&terms).await;

    let view = world
        .http
        .get(&format!("/v1/packages/{package}"))
        .await
        .json();
    assert_eq!(view["state"], "open");
    assert_eq!(view["used_bytes"], "0");
    assert_eq!(view["terms"], serde_json::to_value(&terms).unwrap());
    let ratio = world
        .http
        .get(&format!("/v1/packages/{package}/ratio"))
        .await
        .json();
    assert_eq!(ratio["volume_bytes"], "1000");
    assert_eq!(ratio["moved"]["units"], "0");
    let deposit = terms.deposit().unwrap();
    assert_eq!(deposit, Units::new(5_001_000));
    let listed = world.http.get("/v1/packages?limit=1").await.json();
    assert_eq!(listed["data"][0]["package"], json!(package));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_top_up_opens_the_next_terms_of_the_same_package() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let terms = world.terms(content, 1_000, 1_000, 100);
    let package = world.buy(&terms).await;
    let request = json!({
        "bytes": "500", "reward_units": "500", "operator_units": "0",
        "basestation_units": "0", "gateway_units": "0", "valid_until": terms.valid_until,
    });

    let path = format!("/v1/packages/{package}/topup");
    let (_, answer) = world.transact(&path, PROVIDER, request).await;

    assert_eq!(answer.receipt.unwrap().status, Status::Accepted);
    crate::support::until("the next terms run", async || {
        let answer = world.node.package(&package).await.unwrap().unwrap();
        answer.ledger.package_epoch.get() == 1
    })
    .await;
    let view = world
        .http
        .get(&format!("/v1/packages/{package}/ratio"))
        .await
        .json();
    assert_eq!(view["package_epoch"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_closes_a_package_and_only_earned_units_are_claimed() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    // The stranger needs a fee, or it would be refused for that.
    let quote = transfer_quote(&world, PROVIDER, 1_000_000).await;
    let body = json!({"transaction": sign(&quote, &key(PROVIDER))});
    let sent = world.http.post("/v1/transfers", &body).await.json();
    world
        .final_answer(sent["transaction"].as_str().unwrap().parse().unwrap())
        .await;

    let path = format!("/v1/packages/{package}/close");
    let request = json!({"account": account(POOR)});
    let quote = world
        .http
        .post(&format!("{path}/quote"), &request)
        .await
        .json();
    let body = json!({"transaction": sign(&quote, &key(POOR))});
    let stranger = world.http.post(&path, &body).await;
    let other = format!("/v1/packages/{}/close", PackageId::new([9; 16]));
    let elsewhere = world.http.post(&other, &body).await;
    let claim = json!({
        "package": package, "viewer": world.viewer(package, 1).viewer(), "to": account(POOR),
    });
    let claim = world.http.post("/v1/claims/quote", &claim).await;

    assert_eq!(stranger.refusal(), (403, "not_owner".to_owned()));
    assert_eq!(
        elsewhere.refusal(),
        (400, "wrong_transaction_type".to_owned())
    );
    assert_eq!(claim.refusal(), (409, "nothing_to_claim".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_claims_what_it_has_earned_to_an_account() {
    let world = World::start().await;
    let film = vec![3; 1_000];
    let content = world.film(&film).await;
    let package = world
        .buy(&world.terms(content, 10_000, 10_000, 1_000))
        .await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 1_000);
    world.settled(package, 1_000).await;
    let viewer = world.viewer(package, 1);
    let request = json!({"package": package, "viewer": viewer.viewer(), "to": account(POOR)});
    let quote = world.http.post("/v1/claims/quote", &request).await.json();

    let bytes = hex::decode(quote["unsigned_transaction"].as_str().unwrap()).unwrap();
    let unsigned = Transaction::from_bytes(&bytes).unwrap();
    let signed = viewer.claim(account(POOR), Units::new(1_000), world.chain);
    assert_eq!(signed.transaction, unsigned);
    let body = json!({"transaction": hex::encode(signed.to_bytes())});
    let answer = world.http.post("/v1/claims", &body).await;

    assert_eq!(answer.status, 202, "{}", answer.text);
    world.final_answer(signed.id()).await;
    assert_eq!(balance(&world, POOR).await, 1_000);
    let rows = world
        .http
        .get(&format!("/v1/consumption?package={package}"))
        .await
        .json();
    assert_eq!(rows["data"][0]["bytes"], json!(Bytes::new(1_000)));
    assert_eq!(rows["data"][0]["earned"]["units"], "1000");
    assert_eq!(rows["data"][0]["claimed"]["units"], "1000");
}
