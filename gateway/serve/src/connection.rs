//! One connection: preflight of each request, the router, the finish of each response.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::body::{DrainSignal, GuardedBody, TrackedBody};
use crate::io::{Deadlines, GuardedIo, Phase};
use crate::metrics::ServerMetrics;
use crate::problem::Problem;
use crate::server::ServeConfig;

/// hyper refuses a smaller buffer by a panic.
const HYPER_BUFFER_BYTES_MIN: usize = 8192;
/// Plain text of an extractor's rejection that is carried over into a problem's detail.
const REJECTION_BYTES_MAX: usize = 4096;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request; in its extensions, its `x-request-id` header and its problem `instance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id as text: two hexadecimal numbers (process, request).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names requests: a random number per process, then a counter.
#[derive(Debug)]
struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let process = RandomState::new().build_hasher().finish();
        Self {
            process,
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:016x}-{number:x}", self.process).into())
    }
}

/// What all connections of a server share.
pub(crate) struct Shared {
    config: ServeConfig,
    router: Router,
    ids: RequestIds,
    metrics: ServerMetrics,
    drain: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(
        config: ServeConfig,
        router: Router,
        metrics: ServerMetrics,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config,
            router,
            ids: RequestIds::new(),
            metrics,
            drain,
        }
    }

    fn draining(&self) -> DrainSignal {
        let mut drain = self.drain.clone();
        Box::pin(async move {
            // A dropped sender means the server is gone: the same signal.
            let _ = drain.wait_for(|draining| *draining).await;
        })
    }
}

/// Serves one connection until it closes, expires or is drained.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let config = &shared.config;
    let phase = Arc::new(Phase::new());
    let deadlines = Deadlines {
        head: config.header_timeout,
        idle: config.idle_timeout,
        write: config.write_timeout,
    };
    let io = TokioIo::new(GuardedIo::new(stream, Arc::clone(&phase), deadlines));
    let service = service_fn(|request| answer(request, peer, Arc::clone(&phase), &shared));
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(config.max_headers)
        .max_buf_size(config.max_header_bytes.max(HYPER_BUFFER_BYTES_MIN))
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);

    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shared.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        let expired = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.kind() == std::io::ErrorKind::TimedOut);
        if expired {
            shared.metrics.expired.inc();
        }
        tracing::debug!(%peer, %error, expired, "connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    phase: Arc<Phase>,
    shared: &Shared,
) -> Result<Response<TrackedBody>, Infallible> {
    phase.busy();
    let id = shared.ids.next();
    let response = match preflight(&request, &shared.config) {
        Ok(()) => route(request, peer, &id, shared).await,
        Err(problem) => refuse(problem),
    };
    let response = finish(response, &id).await;
    let endless = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let end_on = endless.then(|| shared.draining());
    Ok(response.map(|body| TrackedBody::new(body, phase, end_on)))
}

async fn route(
    request: Request<Incoming>,
    peer: SocketAddr,
    id: &RequestId,
    shared: &Shared,
) -> Response {
    let config = &shared.config;
    let mut request = request.map(|body| {
        Body::new(GuardedBody::new(
            body,
            config.max_body_bytes,
            config.body_timeout,
        ))
    });
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(id.clone());
    let Ok(response) = shared.router.clone().oneshot(request).await;
    response
}

/// A refusal after which the connection cannot be trusted to be in step.
fn refuse(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses what two parsers could read differently, and bodies that say they are too large.
///
/// hyper drops a Content-Length that follows Transfer-Encoding before we see it, so any
/// Transfer-Encoding is refused (RFC 9112 §6.3 allows 411): our clients always know the length.
/// Source: RFC 9112 §3.2 (one Host), §6.1 (both lengths), §6.3.
fn preflight(request: &Request<Incoming>, config: &ServeConfig) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(if headers.contains_key(header::CONTENT_LENGTH) {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "ambiguous_length",
                "content-length and transfer-encoding must not come together",
            )
        } else {
            Problem::of_status(
                StatusCode::LENGTH_REQUIRED,
                "send the body with content-length",
            )
        });
    }
    if request.version() == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Problem::of_status(
            StatusCode::BAD_REQUEST,
            "exactly one host header is needed",
        ));
    }
    match stated_length(headers)? {
        Some(stated) if stated > config.max_body_bytes => Err(Problem::of_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the body has {stated} bytes, at most {} are taken",
                config.max_body_bytes
            ),
        )),
        _ => Ok(()),
    }
}

fn stated_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let length = first
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    if length.is_none() || values.any(|other| other != first) {
        let detail = "content-length must be one decimal number";
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "ambiguous_length",
            detail,
        ));
    }
    Ok(length)
}

/// Adds the request id, and turns every refusal into problem+json: the routers' empty 404 and
/// 405 and the plain text of axum's own extractors included.
async fn finish(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    let mut response = if status.is_client_error() || status.is_server_error() {
        to_problem(response, id).await
    } else {
        response
    };
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

async fn to_problem(mut response: Response, id: &RequestId) -> Response {
    let known = response.extensions_mut().remove::<Problem>();
    let plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if known.is_none() && !plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem = match known {
        Some(problem) => problem,
        None => {
            let text = to_bytes(body, REJECTION_BYTES_MAX)
                .await
                .unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let reason = parts.status.canonical_reason().unwrap_or("refused");
            let detail = if text.is_empty() { reason } else { &text };
            Problem::of_status(parts.status, detail)
        }
    };
    let json = problem.with_instance(id.as_str()).to_json();
    parts.headers.remove(header::CONTENT_LENGTH);
    let kind = HeaderValue::from_static("application/problem+json");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    Response::from_parts(parts, Body::from(json))
}
