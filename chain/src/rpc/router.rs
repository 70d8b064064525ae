//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use prometheus::Registry;
use qlink_serve::{Problem, metrics_router};

use super::{events, read, stake, submit};
use crate::node::Shared;

pub(crate) fn router(shared: Arc<Shared>, registry: Registry) -> Router {
    Router::new()
        .route("/v1/status", get(read::status))
        .route("/v1/fees", get(read::fees))
        .route("/v1/supply", get(read::supply))
        .route("/v1/accounts/{id}", get(read::account))
        .route("/v1/accounts/{id}/stakes", get(stake::stakes))
        .route("/v1/candidates", get(stake::candidates))
        .route("/v1/candidates/{id}", get(stake::candidate))
        .route("/v1/seats", get(stake::seats))
        .route("/v1/contents/{id}", get(read::content))
        .route("/v1/packages", get(read::packages))
        .route("/v1/packages/{id}", get(read::package))
        .route("/v1/packages/{id}/viewers", get(read::viewers))
        .route("/v1/packages/{id}/viewers/{viewer}", get(read::viewer))
        .route("/v1/parties/{id}", get(read::party))
        .route("/v1/blocks", get(read::blocks))
        .route("/v1/blocks/{height}", get(read::block))
        .route("/v1/proofs/account/{id}", get(read::account_proof))
        .route("/v1/transactions", post(submit::submit))
        .route("/v1/transactions/{id}", get(submit::transaction))
        .route("/v1/events", get(events::page))
        .route("/v1/events/stream", get(events::stream))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND, "no such resource"))
        .with_state(shared)
        .merge(metrics_router(registry))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    if shared.is_running() {
        return Ok("ready\n");
    }
    Err(Problem::of_status(
        StatusCode::SERVICE_UNAVAILABLE,
        "no blocks are being made",
    ))
}
