//! Routes, request signatures, and the faults that strike at the door.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hmac::{Hmac, KeyInit, Mac};
use qlink_operator::{
    FileJournal, Journal, JournalError, Op, OpId, Period, SIGNATURE_HEADER, SharedKey,
    TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE_MS, signing_input,
};
use qlink_serve::{Json, Problem};
use serde::Deserialize;
use sha2::Sha256;

use crate::config::{Action, Point};
use crate::operator::{Callback, Change, Operator, Refusal, Transaction, Usage};

/// How long a dropped answer keeps its connection open; clients give up earlier.
const DROPPED: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 1 << 16;

/// HMAC-SHA256, lower-case hexadecimal. Source: RFC 2104.
pub(crate) fn sign(key: &SharedKey, input: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else {
        return String::new();
    };
    mac.update(input);
    hex::encode(mac.finalize().into_bytes())
}

fn verify(key: &SharedKey, input: &[u8], signature: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else {
        return false;
    };
    mac.update(input);
    hex::decode(signature).is_ok_and(|bytes| mac.verify_slice(&bytes).is_ok())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The machine and its journal under one lock: a change is durable before anyone sees it.
pub(crate) struct Desk {
    pub(crate) operator: Operator,
    pub(crate) journal: Option<FileJournal>,
}

impl Desk {
    /// Makes a change durable and takes it in.
    pub(crate) fn commit(&mut self, change: Change) -> Result<(), JournalError> {
        if let Some(journal) = &mut self.journal {
            journal.append(&serde_json::to_vec(&change).unwrap_or_default())?;
        }
        self.operator.apply(change);
        Ok(())
    }

    /// Moves time on; gives the callbacks to send.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Result<Vec<Callback>, JournalError> {
        let (changes, callbacks) = self.operator.tick(now_ms);
        changes
            .into_iter()
            .try_for_each(|change| self.commit(change))?;
        Ok(callbacks)
    }
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) desk: Arc<Mutex<Desk>>,
    pub(crate) key: SharedKey,
}

impl Shared {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        work(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/transactions", post(create).get(query))
        .route("/v1/transactions/{id}/confirm", post(confirm))
        .route("/v1/transactions/{id}/cancel", post(cancel))
        .route("/v1/usage", post(usage))
        .route("/v1/statement", get(statement))
        .route("/v1/balance", get(balance))
        .layer(from_fn_with_state(shared.clone(), authenticate))
        .route("/healthz", get(async || "ok"))
        .with_state(shared)
}

async fn authenticate(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
            .into_response();
    };
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    if !is_signed(
        &shared.key,
        parts.method.as_str(),
        target,
        &parts.headers,
        &body,
    ) {
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "bad_signature",
            format!("{SIGNATURE_HEADER} or {TIMESTAMP_HEADER} is missing, wrong or old"),
        )
        .into_response();
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn is_signed(
    key: &SharedKey,
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(time), Some(signature)) = (text(TIMESTAMP_HEADER), text(SIGNATURE_HEADER)) else {
        return false;
    };
    let Ok(time) = time.parse::<u64>() else {
        return false;
    };
    now_ms().abs_diff(time) <= TIMESTAMP_TOLERANCE_MS
        && verify(key, &signing_input(method, target, time, body), signature)
}

/// A transaction as it is shown; the request's operation stays inside.
fn shown(transaction: &Transaction) -> Response {
    Json(serde_json::json!({
        "id": transaction.id,
        "reference": transaction.reference,
        "state": transaction.state,
        "price": transaction.price,
        "reason": transaction.reason,
        "time_ms": transaction.time_ms.to_string(),
        "countersignature": transaction.countersignature,
    }))
    .into_response()
}

/// The bytes of a callback: what a query would answer.
pub(crate) async fn callback_body(transaction: &Transaction) -> Vec<u8> {
    let body = shown(transaction).into_body();
    to_bytes(body, BODY_BYTES_MAX)
        .await
        .map(Vec::from)
        .unwrap_or_default()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::KeyReused => (StatusCode::CONFLICT, "key_reused"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::WrongState => (StatusCode::CONFLICT, "wrong_state"),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Problem::new(status, code, self.to_string()).into_response()
    }
}

/// Runs one request: the fault that comes before it, the effect, the fault that comes after.
async fn perform<T>(
    shared: &Shared,
    point: Point,
    reference: Option<&OpId>,
    effect: impl FnOnce(&mut Desk) -> Result<T, Refusal>,
    show: impl FnOnce(T) -> Response,
) -> Response {
    let (fault, outcome) = shared.with(|desk| {
        let fault = desk.operator.fault(point, reference);
        let outcome = (fault != Some(Action::Error500)).then(|| effect(desk));
        (fault, outcome)
    });
    match fault {
        Some(Action::DropAnswer) => tokio::time::sleep(DROPPED).await,
        Some(Action::Delay { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    match outcome {
        Some(Ok(value)) => show(value),
        Some(Err(refusal)) => refusal.into_response(),
        None => Refusal::Failed.into_response(),
    }
}

fn committed(
    desk: &mut Desk,
    decided: Result<(Transaction, Option<Change>), Refusal>,
) -> Result<Transaction, Refusal> {
    let (transaction, change) = decided?;
    match change.map(|change| desk.commit(change)) {
        None | Some(Ok(())) => Ok(transaction),
        Some(Err(error)) => {
            tracing::error!(%error, "journal");
            Err(Refusal::Failed)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    reference: OpId,
    op: Op,
}

async fn create(State(shared): State<Shared>, Json(body): Json<Create>) -> Response {
    let Create { reference, op } = body;
    let effect = |desk: &mut Desk| {
        let decided = desk.operator.create(reference, op, now_ms());
        committed(desk, decided)
    };
    let show = |transaction| {
        let mut response = shown(&transaction);
        *response.status_mut() = StatusCode::CREATED;
        response
    };
    perform(&shared, Point::Create, Some(&reference), effect, show).await
}

async fn confirm(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let reference = shared.with(|desk| desk.operator.by_id(&id).map(|known| known.reference));
    let effect = |desk: &mut Desk| {
        let decided = desk.operator.confirm(&id, now_ms());
        committed(desk, decided)
    };
    let show = |transaction| shown(&transaction);
    perform(&shared, Point::Confirm, reference.as_ref(), effect, show).await
}

async fn cancel(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let done = shared.with(|desk| {
        let decided = desk.operator.cancel(&id, now_ms());
        committed(desk, decided)
    });
    done.map_or_else(IntoResponse::into_response, |transaction| {
        shown(&transaction)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByReference {
    reference: OpId,
}

async fn query(State(shared): State<Shared>, Query(by): Query<ByReference>) -> Response {
    let effect = |desk: &mut Desk| {
        let found = desk.operator.find(&by.reference).cloned();
        found.ok_or(Refusal::NotFound)
    };
    let show = |transaction| shown(&transaction);
    perform(&shared, Point::Query, Some(&by.reference), effect, show).await
}

async fn usage(State(shared): State<Shared>, Json(usage): Json<Usage>) -> Response {
    let done = shared.with(|desk| match desk.operator.usage(&usage, now_ms()) {
        Ok(None) => Ok(()),
        Ok(Some(change)) => desk.commit(change).map_err(|_| Refusal::Failed),
        Err(refusal) => Err(refusal),
    });
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementQuery {
    from_ms: u64,
    until_ms: u64,
    cursor: Option<String>,
}

async fn statement(State(shared): State<Shared>, Query(query): Query<StatementQuery>) -> Response {
    let period = Period {
        from_ms: query.from_ms,
        until_ms: query.until_ms,
    };
    let page = shared.with(|desk| desk.operator.statement(period, query.cursor.as_deref()));
    Json(page).into_response()
}

async fn balance(State(shared): State<Shared>) -> Response {
    Json(shared.with(|desk| desk.operator.balance())).into_response()
}
