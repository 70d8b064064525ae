//! Handing transactions in and asking after them.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use qlink_client::rpc::{SubmitAnswer, SubmitRequest, TransactionAnswer, TransactionState};
use qlink_serve::{Json, Problem};
use qlink_store::StateStoreError;
use qlink_types::ids::TxId;
use qlink_types::outcome::Status;
use qlink_types::transaction::MAX_TRANSACTION_BYTES;
use qlink_types::units::BlockHeight;

use super::request::{Answer, Id, blocking, internal, parsed};
use crate::mempool::AdmitError;
use crate::node::{Shared, SubmitError, Submitted};

/// A JSON frame around the largest transaction in hexadecimal.
const BODY_BYTES_MAX: usize = 2 * MAX_TRANSACTION_BYTES + 1024;

/// 202 for what waits, 200 for what is final already. The body is `{"transaction": hex}` or, as
/// `application/octet-stream`, the canonical bytes themselves.
pub(super) async fn submit(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Problem> {
    let bytes = transaction_bytes(request).await?;
    let submitted = blocking(shared, move |shared| shared.submit(&bytes).map_err(refusal));
    let (status, id) = match submitted.await? {
        Submitted::Pending(id) => (StatusCode::ACCEPTED, id),
        Submitted::Final(id) => (StatusCode::OK, id),
    };
    Ok((status, Json(SubmitAnswer { id })).into_response())
}

async fn transaction_bytes(request: Request) -> Result<Vec<u8>, Problem> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let raw = kind == "application/octet-stream";
    if !raw && kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Problem::of_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/json or application/octet-stream",
        ));
    }
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body.map_err(|_| {
        Problem::of_status(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a transaction has at most {MAX_TRANSACTION_BYTES} bytes"),
        )
    })?;
    if raw {
        return Ok(body.to_vec());
    }
    let refused = |code, detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, code, detail.clone())
            .with_error("/transaction", detail)
    };
    let request: SubmitRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed_json", error.to_string())
    })?;
    hex::decode(&request.transaction)
        .map_err(|error| refused("malformed_transaction", format!("not hexadecimal: {error}")))
}

fn refusal(error: SubmitError) -> Problem {
    match error {
        SubmitError::TooLong(_) => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "transaction_too_large",
            error.to_string(),
        ),
        SubmitError::Malformed(_) => Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed_transaction",
            error.to_string(),
        )
        .with_error("/transaction", error.to_string()),
        SubmitError::Admit(AdmitError::Refused(status)) => {
            Problem::new(http_status(status), status.name(), error.to_string())
        }
        SubmitError::Admit(AdmitError::Full { .. }) => {
            let full = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(full, "pool_full", error.to_string()).with_retry_after(1)
        }
        SubmitError::Admit(AdmitError::State(cause)) => internal(&cause),
        SubmitError::State(cause) => internal(&cause),
    }
}

/// The ledger's reason stands in the problem's code; HTTP's status only sorts it.
const fn http_status(status: Status) -> StatusCode {
    match status {
        Status::BadSignature | Status::KeyProofInvalid => StatusCode::UNAUTHORIZED,
        Status::NotOwner | Status::WrongSender => StatusCode::FORBIDDEN,
        Status::WrongNonce
        | Status::BatchSequence
        | Status::DuplicateContent
        | Status::PackageClosing
        | Status::PackageClosed
        | Status::PackageExpired
        | Status::PackageExhausted => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

pub(super) async fn transaction(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<TransactionAnswer> {
    let id: TxId = parsed("transaction", &id)?;
    let answer = blocking(shared, move |shared| find(shared, id));
    answer.await.map(Json)
}

fn find(shared: &Shared, id: TxId) -> Result<TransactionAnswer, Problem> {
    let absent = |state| TransactionAnswer {
        id,
        state,
        height: None,
        receipt: None,
    };
    // Pool first: a transaction leaves it only after its block is stored.
    let waits = shared.pool().contains(&id);
    let state = shared.state();
    let failed = |error: StateStoreError| internal(&error);
    let Some(place) = state.place(&id).map_err(failed)? else {
        let found = if waits {
            TransactionState::Pending
        } else {
            TransactionState::Unknown
        };
        return Ok(absent(found));
    };
    let height: BlockHeight = place.height;
    let receipts = state.receipts(height).map_err(failed)?.unwrap_or_default();
    let index = usize::try_from(place.receipt).unwrap_or(usize::MAX);
    Ok(TransactionAnswer {
        id,
        state: TransactionState::Final,
        height: Some(height),
        receipt: receipts.get(index).cloned(),
    })
}
