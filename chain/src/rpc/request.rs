//! What the handlers share: paging, identifiers, blocking reads.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use qlink_serve::{Json, Problem};
use serde::Deserialize;

use crate::node::Shared;

/// Rows of a page unless told otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Runs what reads the store on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result,
        Err(error) => Err(internal(&error)),
    }
}

/// A failure that is the node's own; its cause goes to the log, not to the client.
pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a request failed inside the node");
    Problem::of_status(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the node failed to answer; its log says why",
    )
}

pub(super) fn not_found(code: &'static str, id: &impl Display) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        code,
        format!("{id} is not on the chain"),
    )
}

/// Parses a path or query value; the problem names it.
pub(super) fn parsed<T>(what: &'static str, text: &str) -> Result<T, Problem>
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
pub(super) struct PageQuery {
    after: Option<String>,
    limit: Option<String>,
    pub(super) owner: Option<String>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
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

    pub(super) fn after<T>(&self) -> Result<Option<T>, Problem>
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
pub(super) fn query<T>(
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

pub(super) type QueryOf<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;
pub(super) type Id = Path<String>;
