//! Bad input gets a reason and changes nothing; events come once, in order, across reconnects.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::time::Duration;

use qlink_client::{EventFollower, FileCursor};
use qlink_types::codec::Encode as _;
use qlink_types::signature::Signature;
use support::{Running, account, config, transfer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: &str = "POST /v1/transactions HTTP/1.1\r\ncontent-type: application/json";

fn json_of(bytes: &[u8]) -> Vec<u8> {
    format!("{{\"transaction\":\"{}\"}}", hex::encode(bytes)).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_transactions_get_a_problem_with_its_reason_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    let before = node.settled().await;
    let good = transfer(1, 0, 2, 1);
    let mut truncated = good.to_bytes();
    truncated.pop();
    let mut trailing = good.to_bytes();
    trailing.push(0);
    let mut forged = good.clone();
    forged.signature = Signature::new([7; 64]);
    let mut other_chain = good.clone();
    other_chain.transaction.chain = qlink_types::ids::Hash32::ZERO;
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"not json".to_vec(), 400, "malformed_json"),
        (b"{\"tx\":\"00\"}".to_vec(), 400, "malformed_json"),
        (
            b"{\"transaction\":\"xyz\"}".to_vec(),
            400,
            "malformed_transaction",
        ),
        (json_of(b""), 400, "malformed_transaction"),
        (json_of(&truncated), 400, "malformed_transaction"),
        (json_of(&trailing), 400, "malformed_transaction"),
        (json_of(&[0; 1_000_001]), 413, "transaction_too_large"),
        (json_of(&forged.to_bytes()), 401, "bad_signature"),
        (json_of(&other_chain.to_bytes()), 422, "wrong_chain"),
        (
            json_of(&transfer(1, 5, 2, 1).to_bytes()),
            409,
            "wrong_nonce",
        ),
        (
            json_of(&transfer(1, 0, 2, 1_000_000_000).to_bytes()),
            422,
            "insufficient_funds",
        ),
        (
            json_of(&transfer(1, 0, 2, 0).to_bytes()),
            422,
            "amount_zero",
        ),
    ];

    for (body, status, code) in cases {
        let (found, head, text) = node.raw(JSON, &body).await;

        assert_eq!(found, status, "{code}: {text}");
        assert!(head.contains("application/problem+json"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem.pointer("/code").unwrap(), code, "{text}");
    }
    let (kind, _, _) = node
        .raw(
            "POST /v1/transactions HTTP/1.1\r\ncontent-type: text/plain",
            b"x",
        )
        .await;
    assert_eq!(kind, 415);
    assert_eq!(node.settled().await, before);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_a_problem_that_names_the_parameter() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    let package = "pkg_00000000000000000000000000";
    let content = format!("b3:{}", "00".repeat(32));
    for (path, status, code) in [
        ("/v1/accounts/x".to_owned(), 400, "bad_parameter"),
        (format!("/v1/contents/{content}"), 404, "unknown_content"),
        (format!("/v1/packages/{package}"), 404, "unknown_package"),
        (
            format!("/v1/packages/{package}/viewers"),
            404,
            "unknown_package",
        ),
        ("/v1/packages?limit=0".to_owned(), 400, "bad_parameter"),
        ("/v1/packages?limit=1001".to_owned(), 400, "bad_parameter"),
        ("/v1/packages?colour=red".to_owned(), 400, "bad_parameter"),
        (
            "/v1/parties/gwy_00000000000000000000000000".to_owned(),
            404,
            "unknown_gateway",
        ),
        ("/v1/blocks/999999".to_owned(), 404, "unknown_block"),
        ("/v1/blocks/-1".to_owned(), 400, "bad_parameter"),
        ("/v1/events?after=1".to_owned(), 400, "bad_parameter"),
        (
            format!("/v1/proofs/account/{}?height=99", account(1)),
            404,
            "state_not_kept",
        ),
        ("/v1/nothing".to_owned(), 404, "not_found"),
    ] {
        let (found, head, text) = node.raw(&format!("GET {path} HTTP/1.1"), b"").await;

        assert_eq!(found, status, "{path}: {text}");
        assert!(head.contains("application/problem+json"), "{path}: {head}");
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem.pointer("/code").unwrap(), code, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/v1/fees", "/v1/blocks"] {
        let (found, _, text) = node.raw(&format!("GET {path} HTTP/1.1"), b"").await;
        assert_eq!(found, 200, "{path}: {text}");
    }
    node.stop().await;
}

/// Reads a stream until it has `count` events, then drops the connection in the middle of whatever
/// comes next.
async fn read_events(node: &Running, last: Option<&str>, count: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let resume = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
    let head = format!("GET /v1/events/stream HTTP/1.1\r\nhost: node\r\n{resume}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 512];
    let ids = |text: &str| -> Vec<String> {
        let events = text.split("\n\n").filter(|event| event.contains("data: "));
        let whole = events.filter(|event| event.trim_end().ends_with('}'));
        whole
            .filter_map(|event| {
                event
                    .split("id: ")
                    .nth(1)?
                    .lines()
                    .next()
                    .map(str::to_owned)
            })
            .collect()
    };
    while ids(&text).len() < count {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer));
        let length = read.await.expect("no event came").unwrap();
        assert_ne!(length, 0, "the node closed the stream: {text}");
        text.push_str(std::str::from_utf8(buffer.get(..length).unwrap()).unwrap());
    }
    let mut found = ids(&text);
    found.truncate(count);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_resumes_without_loss_or_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    for nonce in 0..6 {
        node.pay(1, nonce, 2, 1).await;
    }
    let mut seen: Vec<String> = Vec::new();

    for count in [1, 2, 3] {
        let last = seen.last().cloned();
        seen.extend(read_events(&node, last.as_deref(), count).await);
    }
    // An event that is made while the client is away, and one while it waits.
    node.pay(1, 6, 2, 1).await;
    let last = seen.last().cloned();
    let waiting = read_events(&node, last.as_deref(), 2);
    let (tail, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.pay(1, 7, 2, 1).await;
    });
    seen.extend(tail);

    let page = node.client.events(None, 1000).await.unwrap();
    let all: Vec<String> = page.data.into_iter().map(|event| event.cursor).collect();
    assert_eq!(seen, all);
    assert_eq!(all.len(), 8);
    assert!(all.is_sorted());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_events_join_without_loss_or_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    for nonce in 0..5 {
        node.pay(1, nonce, 2, 1).await;
    }
    let all = node.client.events(None, 1000).await.unwrap().data;

    let mut joined = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = node.client.events(after.as_deref(), 2).await.unwrap();
        joined.extend(page.data);
        after = page.next;
        if !page.has_more {
            break;
        }
    }

    assert_eq!(joined, all);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumers_cursor_survives_its_own_restart_and_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cursor");
    let node = Running::start(config(folder.path())).await;
    node.pay(1, 0, 2, 1).await;
    node.pay(1, 1, 2, 1).await;
    let all = node.client.events(None, 10).await.unwrap().data;
    let mut follower = EventFollower::resume(node.client.clone(), FileCursor::new(&path)).unwrap();
    assert_eq!(follower.next(10).await.unwrap(), all);
    follower.acknowledge(&all.first().unwrap().cursor).unwrap();
    drop(follower);
    node.stop().await;
    let node = Running::start(config(folder.path())).await;

    let follower = EventFollower::resume(node.client.clone(), FileCursor::new(&path)).unwrap();

    assert_eq!(follower.next(10).await.unwrap(), all.get(1..).unwrap());
    node.stop().await;
}
