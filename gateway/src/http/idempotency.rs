//! `Idempotency-Key` on every POST: a repeated request gets the first answer, and only it.
//!
//! ```text
//! Sessions column:  'i' BLAKE3(path, key) -> body hash (32) | stored at ms (u64) | status (u16) | body
//! ```
//!
//! The requests themselves are idempotent too (a transaction by its id, a session by its signed
//! request), so a crash between effect and stored answer repeats the effect harmlessly.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use dashmap::DashSet;
use qlink_serve::Problem;
use qlink_store::{Column, KvStore, StoreError, Sync, WriteBatch};
use qlink_types::codec::Encode as _;
use qlink_types::codec::{Blob, Decode as _};
use qlink_types::ids::Hash32;
use qlink_types::struct_codec;
use qlink_types::units::TimeMs;

use super::problem::internal;
use crate::service::now;

/// Longest key.
const KEY_BYTES_MAX: usize = 128;

/// Longest request or answer under a key.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How long an answer is kept: a day.
const KEEP_MS: u64 = 24 * 60 * 60 * 1000;

/// Rows that each stored answer looks at for expiry: twice as fast as they come, so the rows stay
/// those of about a day.
const SWEEP_ROWS: usize = 2;

/// Requests under way at one time.
const IN_FLIGHT_MAX: usize = 1024;

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    body_hash: Hash32,
    stored_at: TimeMs,
    status: u16,
    body: Blob<BODY_BYTES_MAX>,
}

struct_codec!(Stored {
    body_hash,
    stored_at,
    status,
    body
});

/// Keys of finished requests in the store, and those under way.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    store: Arc<dyn KvStore>,
    in_flight: Arc<DashSet<String>>,
    /// Last row that the sweep has looked at.
    swept: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Keys {
    pub(crate) fn new(store: Arc<dyn KvStore>) -> Self {
        Self {
            store,
            in_flight: Arc::default(),
            swept: Arc::default(),
        }
    }

    /// Adds the deletion of rows that have outlived their day to `batch`.
    fn sweep(&self, now: TimeMs, batch: &mut WriteBatch) -> Result<(), StoreError> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self
            .store
            .scan(Column::Sessions, b"i", swept.as_deref(), SWEEP_ROWS)?;
        *swept = rows.last().map(|(key, _)| key.clone());
        for (key, value) in rows {
            let expired = Stored::from_bytes(&value)
                .map_or(true, |row| now >= row.stored_at.plus_millis(KEEP_MS));
            if expired {
                batch.delete(Column::Sessions, key);
            }
        }
        Ok(())
    }

    fn begin(&self, key: &str) -> Result<InFlight, Problem> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Err(Problem::of_status(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests are under way; try again",
            )
            .with_retry_after(1));
        }
        if !self.in_flight.insert(key.to_owned()) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "idempotency_key_in_use",
                "a request with this key is under way; wait for its answer",
            ));
        }
        Ok(InFlight {
            keys: self.clone(),
            key: key.to_owned(),
        })
    }
}

/// Frees its key when dropped, however the request ends.
struct InFlight {
    keys: Keys,
    key: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.keys.in_flight.remove(&self.key);
    }
}

/// Middleware for all routes; requests other than POST, and those without a key, pass.
pub(crate) async fn idempotent(
    State(keys): State<Keys>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = match request.headers().get("idempotency-key") {
        Some(value) if request.method() == Method::POST => read_key(value)?,
        _ => return Ok(next.run(request).await),
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE, format!("the body: {error}"))
    })?;
    let mut hashed = parts.uri.path().as_bytes().to_vec();
    hashed.push(0);
    hashed.extend_from_slice(&body);
    let body_hash = Hash32::new(*blake3::hash(&hashed).as_bytes());

    let _in_flight = keys.begin(&key)?;
    let row = row_key(parts.uri.path(), &key);
    let stored = keys
        .store
        .get(Column::Sessions, &row)
        .map_err(|error| internal(&error))?;
    let stored = stored.and_then(|bytes| Stored::from_bytes(&bytes).ok());
    if let Some(stored) = stored.filter(|row| now() < row.stored_at.plus_millis(KEEP_MS)) {
        return replay(&stored, body_hash);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    store_answer(&keys, row, body_hash, response).await
}

fn read_key(value: &HeaderValue) -> Result<String, Problem> {
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency_key_invalid",
            format!("the key must be 1 to {KEY_BYTES_MAX} visible ASCII characters"),
        ));
    }
    Ok(text.to_owned())
}

fn replay(stored: &Stored, body_hash: Hash32) -> Result<Response, Problem> {
    if stored.body_hash != body_hash {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this key was used with another request; take a new key",
        ));
    }
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let kind = if status.is_success() {
        "application/json"
    } else {
        "application/problem+json"
    };
    let mut response = (status, stored.body.to_vec()).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Keeps the answer of a success; a refusal has had no effect and binds nobody to its request.
async fn store_answer(
    keys: &Keys,
    row: Vec<u8>,
    body_hash: Hash32,
    response: Response,
) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|error| internal(&error))?;
    if parts.status.is_success() {
        let stored = Stored {
            body_hash,
            stored_at: now(),
            status: parts.status.as_u16(),
            body: Blob::try_from(body.to_vec()).map_err(|error| internal(&error))?,
        };
        let mut batch = WriteBatch::new();
        keys.sweep(stored.stored_at, &mut batch)
            .map_err(|error| internal(&error))?;
        batch.put(Column::Sessions, row, stored.to_bytes());
        keys.store
            .write(batch, Sync::Durable)
            .map_err(|error| internal(&error))?;
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// A key belongs to the resource that it was used with.
fn row_key(path: &str, key: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_bytes());
    hasher.update(&[0]);
    hasher.update(key.as_bytes());
    let mut row = vec![b'i'];
    row.extend_from_slice(hasher.finalize().as_bytes());
    row
}

#[cfg(test)]
mod tests {
    use qlink_store::MemoryStore;

    use super::*;

    fn stored(at: u64) -> Vec<u8> {
        let row = Stored {
            body_hash: Hash32::ZERO,
            stored_at: TimeMs::new(at),
            status: 200,
            body: Blob::default(),
        };
        row.to_bytes()
    }

    #[test]
    fn answers_older_than_a_day_go_as_new_ones_come() {
        let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
        let keys = Keys::new(Arc::clone(&store));
        let mut batch = WriteBatch::new();
        for key in 0..10u8 {
            let age = if key % 2 == 0 { 0 } else { KEEP_MS };
            batch.put(Column::Sessions, vec![b'i', key], stored(age));
        }
        store.write(batch, Sync::Lazy).unwrap();

        for _ in 0..6 {
            let mut batch = WriteBatch::new();
            keys.sweep(TimeMs::new(KEEP_MS), &mut batch).unwrap();
            store.write(batch, Sync::Lazy).unwrap();
        }

        let left = store.scan(Column::Sessions, b"i", None, 100).unwrap();
        assert_eq!(left.len(), 5);
    }
}
