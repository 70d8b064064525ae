//! The RPC: JSON over HTTP, finalized events as SSE. The answers' types live in `qlink-client`.

mod events;
mod read;
mod submit;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use prometheus::Registry;
use qlink_serve::{Json, Problem, metrics_router};
use serde::Deserialize;

use crate::node::Shared;

pub(crate) use read::block_answer;

/// Rows of a page unless told otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

pub(crate) fn router(shared: Arc<Shared>, registry: Registry) -> Router {
    Router::new()
        .route("/v1/status", get(read::status))
        .route("/v1/fees", get(read::fees))
        .route("/v1/supply", get(read::supply))
        .route("/v1/accounts/{id}", get(read::account))
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

type Answer<T> = Result<Json<T>, Problem>;

/// Runs what reads the store on a thread that may block.
async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result,
        Err(error) => Err(internal(&error)),
    }
}

/// A failure that is the node's own; its cause goes to the log, not to the client.
fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a request failed inside the node");
    Problem::of_status(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the node failed to answer; its log says why",
    )
}

fn not_found(code: &'static str, id: &impl Display) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        code,
        format!("{id} is not on the chain"),
    )
}

/// Parses a path or query value; the problem names it.
fn parsed<T>(what: &'static str, text: &str) -> Result<T, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_parameter",
            format!("{what}: {error}"),
        )
        .with_error(format!("/{what}"), format!("{error}"))
    })
}

/// Query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<String>,
    owner: Option<String>,
}

impl PageQuery {
    fn limit(&self) -> Result<usize, Problem> {
        let limit = match &self.limit {
            Some(text) => parsed::<usize>("limit", text)?,
            None => PAGE,
        };
        if limit == 0 || limit > PAGE_MAX {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_parameter",
                format!("limit: {limit} is not between 1 and {PAGE_MAX}"),
            ));
        }
        Ok(limit)
    }

    fn after<T>(&self) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.after
            .as_deref()
            .map(|text| parsed("after", text))
            .transpose()
    }
}

/// A query whose rejection is a problem, too.
fn query<T>(
    query: Result<Query<T>, axum::extract::rejection::QueryRejection>,
) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_parameter",
            rejection.body_text(),
        )
    })
}

type QueryOf<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;
type Id = Path<String>;
