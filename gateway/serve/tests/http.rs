//! The server over real loopback sockets, spoken to in raw bytes.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{get, post};
use http::StatusCode;
use prometheus::Registry;
use qlink_serve::{
    Drained, Event, HttpMetrics, Json, LastEventId, Problem, ServeConfig, Server, metrics_router,
    sse_stream_every,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Upper bound for things that must happen "soon" on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Film {
    name: String,
}

struct Running {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_close(&mut stream).await
    }

    fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

/// Everything until the peer closes; a reset after an answer counts as a close.
async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut buf = [0_u8; 4096];
    let reading = async {
        while let Ok(n @ 1..) = stream.read(&mut buf).await {
            seen.extend_from_slice(buf.get(..n).unwrap());
        }
    };
    timeout(SOON, reading).await.unwrap();
    String::from_utf8(seen).unwrap()
}

fn body_of(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn router() -> Router {
    let slow = async || {
        sleep(Duration::from_millis(400)).await;
        "done"
    };
    let events = async |LastEventId(from): LastEventId| {
        let first: u64 = from.and_then(|id| id.parse().ok()).unwrap_or(0);
        let event = Event {
            id: first.saturating_add(1).to_string(),
            event: "block".into(),
            data: "{}".into(),
        };
        let events = futures::stream::iter([event]);
        sse_stream_every(
            futures::StreamExt::chain(events, futures::stream::pending()),
            Duration::from_millis(50),
        )
    };
    Router::new()
        .route("/films", post(async |Json(film): Json<Film>| Json(film)))
        .route(
            "/films/{number}",
            get(async |Path(number): Path<u32>| number.to_string()),
        )
        .route(
            "/upload",
            post(async |bytes: Bytes| bytes.len().to_string()),
        )
        .route("/slow", get(slow))
        .route("/events", get(events))
        .route(
            "/gone",
            get(async || -> Problem {
                Problem::new(StatusCode::CONFLICT, "package_closed", "closed at height 7")
            }),
        )
}

async fn start_with(config: ServeConfig, router: Router) -> Running {
    let server = Server::bind(config).await.unwrap();
    let addr = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(router, async move {
        let _ = stopped.await;
    }));
    Running {
        addr,
        stop: Some(stop),
        task,
    }
}

async fn start(config: ServeConfig) -> Running {
    start_with(config, router()).await
}

fn post_json(path: &str, kind: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_dripped_header_is_closed_at_the_deadline() {
    let config = ServeConfig {
        header_timeout: Duration::from_millis(300),
        ..ServeConfig::default()
    };
    let server = start(config).await;
    let (mut read, mut write) = server.connect().await.into_split();
    let started = Instant::now();
    let drip = tokio::spawn(async move {
        for byte in b"GET /slow HTTP/1.1\r\nx-drip: "
            .iter()
            .chain(std::iter::repeat(&b'a'))
        {
            if write.write_all(&[*byte]).await.is_err() || started.elapsed() > SOON {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });

    let mut buf = [0_u8; 64];
    let closed = timeout(SOON, read.read(&mut buf)).await.unwrap();

    assert!(matches!(closed, Ok(0) | Err(_)));
    assert!(
        started.elapsed() >= Duration::from_millis(250),
        "{:?}",
        started.elapsed()
    );
    drip.abort();
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_at_the_deadline() {
    let config = ServeConfig {
        header_timeout: Duration::from_millis(200),
        ..ServeConfig::default()
    };
    let server = start(config).await;

    let seen = read_to_close(&mut server.connect().await).await;

    assert_eq!(seen, "");
}

#[tokio::test]
async fn a_kept_alive_connection_may_rest_longer_than_a_header_and_then_closes() {
    let config = ServeConfig {
        header_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(900),
        ..ServeConfig::default()
    };
    let server = start(config).await;
    let mut stream = server.connect().await;
    let request = b"GET /films/1 HTTP/1.1\r\nhost: q\r\n\r\n";
    let mut buf = [0_u8; 1024];
    stream.write_all(request).await.unwrap();
    assert!(stream.read(&mut buf).await.unwrap() > 0);

    sleep(Duration::from_millis(400)).await;
    stream.write_all(request).await.unwrap();
    let second = stream.read(&mut buf).await.unwrap();
    let rest = read_to_close(&mut stream).await;

    assert!(second > 0);
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408_at_its_deadline() {
    let config = ServeConfig {
        body_timeout: Duration::from_millis(200),
        ..ServeConfig::default()
    };
    let server = start(config).await;

    let answer = server
        .exchange("POST /films HTTP/1.1\r\nhost: q\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{")
        .await;

    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(body_of(&answer).get("code").unwrap(), "request_timeout");
}

#[tokio::test]
async fn an_oversize_body_is_answered_413() {
    let config = ServeConfig {
        max_body_bytes: 100,
        ..ServeConfig::default()
    };
    let server = start(config).await;

    let answer = server
        .exchange(&post_json("/films", "application/json", &"x".repeat(101)))
        .await;

    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let body = body_of(&answer);
    assert_eq!(body.get("type").unwrap(), "/problems/body_too_large");
}

#[tokio::test]
async fn json_has_its_own_cap_on_a_server_that_takes_large_uploads() {
    let config = ServeConfig {
        max_body_bytes: 4 << 20,
        ..ServeConfig::default()
    };
    let server = start(config).await;
    let body = format!("\"{}\"", "x".repeat(qlink_serve::JSON_BYTES_MAX));

    let answer = server
        .exchange(&post_json("/films", "application/json", &body))
        .await;

    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn every_json_rejection_is_a_problem() {
    let server = start(ServeConfig::default()).await;

    for (kind, body, status, code) in [
        ("application/json", "{\"name\":", 400, "malformed_json"),
        (
            "application/json",
            "{\"name\":\"a\",\"x\":1}",
            400,
            "invalid_body",
        ),
        ("application/json", "{}", 400, "invalid_body"),
        (
            "text/plain",
            "{\"name\":\"a\"}",
            415,
            "unsupported_media_type",
        ),
    ] {
        let answer = server.exchange(&post_json("/films", kind, body)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{body}: {answer}"
        );
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{answer}"
        );
        assert_eq!(body_of(&answer).get("code").unwrap(), code, "{body}");
    }
    let good = server
        .exchange(&post_json("/films", "application/json", "{\"name\":\"a\"}"))
        .await;
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
}

#[tokio::test]
async fn unknown_routes_wrong_methods_and_bad_paths_are_problems_with_the_request_id() {
    let server = start(ServeConfig::default()).await;

    for (request, status, code) in [
        (get_of("/nothing"), 404, "not_found"),
        (get_of("/films"), 405, "method_not_allowed"),
        (get_of("/films/x"), 400, "bad_request"),
        (get_of("/gone"), 409, "package_closed"),
    ] {
        let answer = server.exchange(&request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        let body = body_of(&answer);
        assert_eq!(body.get("code").unwrap(), code);
        let id = body.get("instance").unwrap().as_str().unwrap();
        assert!(
            answer.contains(&format!("x-request-id: {id}\r\n")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn requests_that_two_parsers_could_cut_differently_are_refused_and_closed() {
    let server = start(ServeConfig::default()).await;
    let smuggled = "GET /films/1 HTTP/1.1\r\nhost: q\r\n\r\n";

    for heads in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: x, chunked\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length : 5\r\n",
        "content-length: 5\r\n folded: 1\r\n",
    ] {
        let request = format!("POST /upload HTTP/1.1\r\nhost: q\r\n{heads}\r\n0\r\n\r\n{smuggled}");
        let answer = server.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{heads:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{heads:?}: {answer}");
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ] {
        let answer = server.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = start(ServeConfig {
        max_headers: 8,
        ..ServeConfig::default()
    })
    .await;
    let many: String = (0..9).map(|n| format!("x-{n}: 1\r\n")).collect();

    let answer = server
        .exchange(&format!("GET / HTTP/1.1\r\nhost: q\r\n{many}\r\n"))
        .await;

    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn connections_over_a_cap_are_answered_503_and_the_place_is_given_back() {
    for config in [
        ServeConfig {
            max_connections: 2,
            ..ServeConfig::default()
        },
        ServeConfig {
            max_connections_per_ip: 2,
            ..ServeConfig::default()
        },
    ] {
        let server = start(config).await;
        let held = (server.connect().await, server.connect().await);
        sleep(Duration::from_millis(50)).await;

        let refused = read_to_close(&mut server.connect().await).await;
        drop(held);
        let mut served = String::new();
        for _ in 0..100 {
            served = server.exchange(&get_of("/films/1")).await;
            if served.starts_with("HTTP/1.1 200") {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }

        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert_eq!(body_of(&refused).get("code").unwrap(), "unavailable");
        assert!(served.starts_with("HTTP/1.1 200"), "{served}");
    }
}

#[tokio::test]
async fn a_drain_finishes_the_request_in_flight_and_takes_no_new_one() {
    let mut server = start(ServeConfig::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(get_of("/slow").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(100)).await;

    server.stop();
    let answer = read_to_close(&mut stream).await;
    let drained = timeout(SOON, &mut server.task).await.unwrap().unwrap();

    assert!(answer.ends_with("done"), "{answer}");
    assert_eq!(
        drained,
        Drained {
            finished: 1,
            aborted: 0
        }
    );
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_what_outlives_its_deadline() {
    let stuck = Router::new().route(
        "/",
        get(async || {
            futures::future::pending::<Result<(), Infallible>>()
                .await
                .is_ok()
                .to_string()
        }),
    );
    let config = ServeConfig {
        drain_timeout: Duration::from_millis(100),
        ..ServeConfig::default()
    };
    let mut server = start_with(config, stuck).await;
    let mut stream = server.connect().await;
    stream.write_all(get_of("/").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(100)).await;

    server.stop();
    let drained = timeout(SOON, &mut server.task).await.unwrap().unwrap();

    assert_eq!(
        drained,
        Drained {
            finished: 0,
            aborted: 1
        }
    );
}

#[tokio::test]
async fn an_event_stream_resumes_keeps_alive_and_ends_on_drain() {
    let mut server = start(ServeConfig::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /events HTTP/1.1\r\nhost: q\r\nlast-event-id: 41\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_millis(300)).await;

    server.stop();
    let answer = read_to_close(&mut stream).await;
    let drained = timeout(SOON, &mut server.task).await.unwrap().unwrap();

    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    assert!(
        answer.contains("id: 42\nevent: block\ndata: {}\n\n"),
        "{answer}"
    );
    assert!(answer.contains(": keep-alive\n\n"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn requests_are_measured_by_route_template_never_by_path() {
    let registry = Registry::new();
    let metrics = HttpMetrics::register(&registry, "test").unwrap();
    let routes = metrics
        .measure(router())
        .merge(metrics_router(registry.clone()));
    let server = Server::bind(ServeConfig::default()).await.unwrap();
    server.metrics().register(&registry).unwrap();
    let addr = server.local_addr();
    tokio::spawn(server.run(routes, futures::future::pending()));
    let server = Running {
        addr,
        stop: None,
        task: tokio::spawn(futures::future::pending()),
    };

    server.exchange(&get_of("/films/7")).await;
    server.exchange(&get_of("/films/8")).await;
    server.exchange(&get_of("/secret-path")).await;
    let text = server.exchange(&get_of("/metrics")).await;

    let line =
        "qlink_test_http_requests_total{class=\"2xx\",method=\"GET\",route=\"/films/{number}\"} 2";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("secret-path"), "{text}");
    assert!(text.contains("qlink_server_http_connections 1"), "{text}");
}
