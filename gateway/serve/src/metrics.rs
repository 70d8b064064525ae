//! Prometheus text, request metrics by matched route, and the listener's own counters.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use http::{HeaderValue, Method, StatusCode, header};
use prometheus::proto::MetricFamily;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::problem::Problem;

/// Upper bounds in seconds; the REST promise is p99 <= 10 ms, so the grid is finest around it.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The registry as Prometheus text (version 0.0.4).
#[must_use]
pub fn metrics_response(registry: &Registry) -> Response {
    families_response(&registry.gather())
}

/// Families of whatever source as Prometheus text (version 0.0.4).
#[must_use]
pub fn families_response(families: &[MetricFamily]) -> Response {
    match TextEncoder::new().encode_to_string(families) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "metrics do not encode");
            Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR, "metrics do not encode")
                .into_response()
        }
    }
}

/// A router with `GET /metrics`, to merge into a component's own.
pub fn metrics_router(registry: Registry) -> Router {
    Router::new().route("/metrics", get(async move || metrics_response(&registry)))
}

/// Rate, errors and duration of requests, labelled by route template, method and status class:
/// closed sets, never a path as sent.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpMetrics {
    /// Registers `qlink_<component>_http_requests_total` and `qlink_<component>_http_request_seconds`.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error`] when the component's set is registered already.
    pub fn register(registry: &Registry, component: &str) -> Result<Self, prometheus::Error> {
        let labels = ["route", "method", "class"];
        let requests = IntCounterVec::new(
            Opts::new(
                format!("qlink_{component}_http_requests_total"),
                "Requests answered.",
            ),
            &labels,
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                format!("qlink_{component}_http_request_seconds"),
                "Time from the end of the request head to the start of the answer.",
            )
            .buckets(SECONDS.to_vec()),
            &labels,
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { requests, seconds })
    }

    /// Measures every route and the fallback of `router`; call it last.
    pub fn measure(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), observe))
    }
}

async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let response = next.run(request).await;
    let labels = [route, method, class_label(response.status())];
    metrics.requests.with_label_values(&labels).inc();
    metrics
        .seconds
        .with_label_values(&labels)
        .observe(started.elapsed().as_secs_f64());
    response
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn class_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// What the listener counts: every cap and deadline it has, and the live connections.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    pub(crate) connections: IntGauge,
    pub(crate) refused_all: IntCounter,
    pub(crate) refused_per_ip: IntCounter,
    pub(crate) expired: IntCounter,
    refused: IntCounterVec,
}

impl ServerMetrics {
    pub(crate) fn new(component: &str) -> Result<Self, prometheus::Error> {
        let prefix = format!("qlink_{component}_http_connections");
        let refused = IntCounterVec::new(
            Opts::new(format!("{prefix}_refused_total"), "Connections over a cap."),
            &["cap"],
        )?;
        Ok(Self {
            connections: IntGauge::new(prefix.clone(), "Open connections.")?,
            refused_all: refused.with_label_values(&["all"]),
            refused_per_ip: refused.with_label_values(&["per_ip"]),
            expired: IntCounter::new(
                format!("{prefix}_expired_total"),
                "Connections closed at a head, idle or write deadline.",
            )?,
            refused,
        })
    }

    /// Registers `qlink_<component>_http_connections`, `…_refused_total` and `…_expired_total`.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error`] when the component's set is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.connections.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.expired.clone()))
    }
}
