//! All routes in one place, and the OpenAPI document made from them.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use qlink_serve::{Json, Problem, metrics_router};
use utoipa::OpenApi;

use super::idempotency::{Keys, idempotent};
use super::{events, read, sessions, submit, tunnels};
use crate::console;
use crate::service::Service;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Qlink gateway",
        description = "Content proven byte by byte, packages settled in QLC. Every POST takes an \
                       Idempotency-Key; money moves only by transactions that the caller signs."
    ),
    paths(
        read::account,
        read::content,
        read::contents,
        read::upload,
        read::packages,
        read::package,
        read::ratio,
        read::consumption,
        submit::quote_transfer,
        submit::submit_transfer,
        submit::quote_content,
        submit::submit_content,
        submit::quote_package,
        submit::submit_package,
        submit::quote_top_up,
        submit::submit_top_up,
        submit::quote_close,
        submit::submit_close,
        submit::quote_claim,
        submit::submit_claim,
        submit::transaction,
        sessions::open,
        sessions::session,
        sessions::sessions,
        sessions::close,
        tunnels::enrol,
        tunnels::rule,
        tunnels::rulings,
        tunnels::members,
        events::events,
        events::event_stream,
    )
)]
struct Document;

/// The routes of the gateway.
pub(crate) fn router(service: Arc<Service>, registry: prometheus::Registry) -> Router {
    let keys = Keys::new(Arc::clone(&service.store));
    Router::new()
        .route("/v1/accounts/{account}", get(read::account))
        .route("/v1/transfers/quote", post(submit::quote_transfer))
        .route("/v1/transfers", post(submit::submit_transfer))
        .route(
            "/v1/contents",
            get(read::contents).post(submit::submit_content),
        )
        .route("/v1/contents/quote", post(submit::quote_content))
        .route("/v1/contents/{content}", get(read::content))
        .route("/v1/contents/{content}/bytes", put(read::upload))
        .route(
            "/v1/packages",
            get(read::packages).post(submit::submit_package),
        )
        .route("/v1/packages/quote", post(submit::quote_package))
        .route("/v1/packages/{package}", get(read::package))
        .route("/v1/packages/{package}/ratio", get(read::ratio))
        .route("/v1/packages/{package}/topup", post(submit::submit_top_up))
        .route(
            "/v1/packages/{package}/topup/quote",
            post(submit::quote_top_up),
        )
        .route("/v1/packages/{package}/close", post(submit::submit_close))
        .route(
            "/v1/packages/{package}/close/quote",
            post(submit::quote_close),
        )
        .route("/v1/sessions", get(sessions::sessions).post(sessions::open))
        .route("/v1/sessions/{session}", get(sessions::session))
        .route("/v1/sessions/{session}/close", post(sessions::close))
        .route("/v1/basestations/{basestation}/tunnel", put(tunnels::enrol))
        .route(
            "/v1/tunnel/rulings",
            get(tunnels::rulings).post(tunnels::rule),
        )
        .route("/v1/tunnel/basestations", get(tunnels::members))
        .route("/v1/claims/quote", post(submit::quote_claim))
        .route("/v1/claims", post(submit::submit_claim))
        .route("/v1/consumption", get(read::consumption))
        .route("/v1/events", get(events::events))
        .route("/v1/events/stream", get(events::event_stream))
        .route("/v1/transactions/{transaction}", get(submit::transaction))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route(
            "/v1/openapi.json",
            get(|| async { Json(Document::openapi()) }),
        )
        .layer(axum::middleware::from_fn_with_state(keys, idempotent))
        .merge(console::routes())
        .with_state(service)
        .merge(metrics_router(registry))
}

/// Ready when the node answers and the data plane has said who it is.
async fn ready(
    axum::extract::State(service): axum::extract::State<Arc<Service>>,
) -> Result<&'static str, Problem> {
    let missing = |what: &str| {
        Problem::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            what.to_owned(),
        )
    };
    if service.link.info().is_none() {
        return Err(missing("the data plane has not answered yet"));
    }
    service
        .node
        .status()
        .await
        .map_err(|_| missing("the node does not answer"))?;
    Ok("ok")
}
