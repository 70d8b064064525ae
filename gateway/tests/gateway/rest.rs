//! What holds for every route: idempotency, refusals as problems, the OpenAPI document.

use std::collections::BTreeSet;

use qlink_types::ids::ContentId;
use serde_json::{Value, json};

use crate::support::{POOR, PROVIDER, World, account, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_post_gets_the_first_answer_and_another_body_is_refused() {
    let world = World::start().await;
    let body = |units: u64| {
        json!({"account": account(PROVIDER), "to": account(POOR), "units": units.to_string()})
            .to_string()
    };
    let path = "/v1/transfers/quote";

    let first = world.http.post_with(path, "one", body(5).as_bytes()).await;
    // The quote would be another one by now: its validity ends later.
    let again = world.http.post_with(path, "one", body(5).as_bytes()).await;
    let other = world.http.post_with(path, "one", body(6).as_bytes()).await;
    let elsewhere = world
        .http
        .post_with("/v1/transfers", "one", body(5).as_bytes())
        .await;
    let fresh = world.http.post_with(path, "two", body(6).as_bytes()).await;

    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (200, None)
    );
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_eq!(other.refusal(), (422, "idempotency_key_reused".to_owned()));
    // A key belongs to the resource that it was used with.
    assert_eq!(elsewhere.refusal(), (400, "invalid_body".to_owned()));
    assert_eq!(fresh.status, 200, "{}", fresh.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_binds_no_key() {
    let world = World::start().await;
    let path = "/v1/transfers/quote";
    let body = |units: &str| {
        json!({"account": account(PROVIDER), "to": account(POOR), "units": units}).to_string()
    };

    let refused = world.http.post_with(path, "k", body("x").as_bytes()).await;
    let mended = world.http.post_with(path, "k", body("5").as_bytes()).await;
    let long = "k".repeat(129);
    let long = world
        .http
        .post_with(path, &long, body("5").as_bytes())
        .await;

    assert_eq!(refused.refusal(), (400, "invalid_body".to_owned()));
    assert_eq!(mended.status, 200, "{}", mended.text);
    assert_eq!(mended.header("idempotent-replayed"), None);
    assert_eq!(long.refusal(), (400, "idempotency_key_invalid".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bodies_get_a_problem_that_says_what_is_wrong() {
    let world = World::start().await;
    let unknown_field =
        json!({"account": account(PROVIDER), "to": account(POOR), "units": "5", "memo": "hi"});
    let number = json!({"account": account(PROVIDER), "to": account(POOR), "units": 5});
    let not_an_id = json!({"account": "acc_xyz", "to": account(POOR), "units": "5"});
    let cases: [(Vec<u8>, &str); 7] = [
        (Vec::new(), "malformed_json"),
        (b"{".to_vec(), "malformed_json"),
        (b"\xff\xfe".to_vec(), "malformed_json"),
        ("[".repeat(10_000).into_bytes(), "invalid_body"),
        (unknown_field.to_string().into_bytes(), "invalid_body"),
        (number.to_string().into_bytes(), "invalid_body"),
        (not_an_id.to_string().into_bytes(), "invalid_body"),
    ];

    for (number, (body, code)) in cases.into_iter().enumerate() {
        let key = format!("case-{number}");
        let answer = world
            .http
            .post_with("/v1/transfers/quote", &key, &body)
            .await;
        assert_eq!(answer.refusal(), (400, code.to_owned()), "case {number}");
    }
    let kind = [("content-type", "text/plain")];
    let answer = world
        .http
        .call("POST", "/v1/transfers/quote", &kind, b"{}")
        .await;
    assert_eq!(answer.refusal().0, 415);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_queries_that_name_nothing_are_problems_too() {
    let world = World::start().await;
    let cases = [
        ("/v1/accounts/xyz", 400),
        ("/v1/packages/xyz", 400),
        ("/v1/packages/pkg_00000000000000000000000000", 404),
        ("/v1/packages/pkg_00000000000000000000000000/ratio", 404),
        ("/v1/sessions/ses_00000000000000000000000000", 404),
        ("/v1/packages?limit=x", 400),
        ("/v1/packages?unknown=1", 400),
        ("/v1/packages?after=a%20b%0d%0ac", 400),
        ("/v1/packages?after=a%26limit=1", 400),
        ("/v1/sessions?after=xyz", 400),
        ("/v1/contents?after=xyz", 400),
        ("/v1/events?after=%2F..%2F", 400),
        ("/v1/events/stream?after=%0a", 400),
        (
            "/v1/consumption?package=pkg_00000000000000000000000000&after=%20",
            400,
        ),
        ("/v1/consumption", 400),
        ("/v1/nothing", 404),
    ];

    for (path, status) in cases {
        let answer = world.http.get(path).await;
        assert_eq!(answer.refusal().0, status, "{path}: {}", answer.text);
    }
    let method = world.http.call("DELETE", "/v1/packages", &[], b"").await;
    assert_eq!(method.refusal().0, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_with_another_root_is_refused_and_nothing_is_kept() {
    let world = World::start().await;
    let content = ContentId::new(*blake3::hash(b"film").as_bytes());
    let path = format!("/v1/contents/{content}/bytes");
    let kind = [("content-type", "application/octet-stream")];

    let wrong = world.http.call("PUT", &path, &kind, b"flim").await;
    let empty = world.http.call("PUT", &path, &kind, b"").await;
    let after = world.http.get(&format!("/v1/contents/{content}")).await;
    let folder = world.folder.path().join("gateway/contents");
    let kept = std::fs::read_dir(&folder).unwrap().count();
    let right = world.http.call("PUT", &path, &kind, b"film").await;

    assert_eq!(wrong.refusal(), (422, "content_mismatch".to_owned()));
    assert_eq!(empty.refusal().0, 422, "{}", empty.text);
    assert_eq!(after.refusal(), (404, "not_found".to_owned()));
    assert_eq!(kept, 0);
    assert_eq!(right.json()["state"], "stored");
    assert_eq!(right.json()["size"], "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_is_served_and_lists_every_route() {
    let world = World::start().await;

    let document = world.http.get("/v1/openapi.json").await.json();

    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{document}"
    );
    let listed: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    // Routes as the source names them: text between quotes that begins like one.
    let routed: BTreeSet<&str> = include_str!("../../src/http/router.rs")
        .split('"')
        .filter(|text| text.starts_with("/v1/") && *text != "/v1/openapi.json")
        .collect();
    assert!(routed.len() > 20, "{routed:?}");
    assert_eq!(listed, routed);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let has_answer = operation["responses"]
                .as_object()
                .is_some_and(|map| !map.is_empty());
            assert!(has_answer, "{method} {path} states no answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_get_of_the_document_answers_json_without_floats() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 50);
    world.settled(package, 50).await;

    for path in [
        format!("/v1/accounts/{}", account(PROVIDER)),
        "/v1/contents".to_owned(),
        format!("/v1/contents/{content}"),
        "/v1/packages".to_owned(),
        format!("/v1/packages/{package}"),
        format!("/v1/packages/{package}/ratio"),
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}"),
        format!("/v1/consumption?package={package}"),
        "/v1/events".to_owned(),
    ] {
        let answer = world.http.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        numbers(&answer.json(), &mut |number| {
            // Only the scale of money is a number; every count is a string.
            assert_eq!(number, 8, "{path}");
        });
    }
}

fn numbers(value: &Value, see: &mut impl FnMut(u64)) {
    match value {
        Value::Number(number) => see(number.as_u64().expect("no float")),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, see)),
        Value::Object(fields) => fields.values().for_each(|field| numbers(field, see)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_as_pages_and_resume_behind_a_cursor() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;

    let all = world.http.get("/v1/events?limit=100").await.json();
    let rows = all["data"].as_array().unwrap();
    let kinds: Vec<&str> = rows
        .iter()
        .map(|row| row["event"]["type"].as_str().unwrap())
        .collect();
    let cursor = rows[rows.len() - 2]["cursor"].as_str().unwrap();
    let last = world
        .http
        .get(&format!("/v1/events?after={cursor}"))
        .await
        .json();

    assert!(kinds.contains(&"package_bought"), "{kinds:?}");
    assert_eq!(
        last["data"].as_array().unwrap().as_slice(),
        &rows[rows.len() - 1..]
    );
    assert_eq!(rows[rows.len() - 1]["event"]["package"], json!(package));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    let world = World::start().await;
    let content = world.film(&[7; 100]).await;
    let package = world.buy(&world.terms(content, 1_000, 1_000, 100)).await;
    let session = world.open(package, 1).await;
    world.plane.deliver(session, 100);
    world.settled(package, 100).await;
    world.close(session).await;

    until("the batch is counted", async || {
        let text = world.http.get("/metrics").await.text;
        text.contains("qlink_gateway_batches_final_total 1")
    })
    .await;
    let text = world.http.get("/metrics").await.text;

    assert!(
        text.contains("qlink_gateway_sessions_opened_total 1"),
        "{text}"
    );
    assert!(
        text.contains("qlink_gateway_sessions_closed_total 1"),
        "{text}"
    );
    assert!(
        text.contains("qlink_gateway_records_refused_total 0"),
        "{text}"
    );
}
