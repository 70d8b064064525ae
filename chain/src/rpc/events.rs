//! Finalized events, as pages and as a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures::stream::unfold;
use qlink_client::rpc::{EventAnswer, PageAnswer};
use qlink_serve::{Event as SseEvent, Json, LastEventId, Problem, sse_stream};
use qlink_store::StateStoreError;
use qlink_types::units::BlockHeight;
use tokio::sync::watch;

use super::request::{Answer, PageQuery, QueryOf, blocking, internal, parsed, query};
use crate::cursor::EventCursor;
use crate::node::{ChainState, Shared};

/// Events read ahead per stream.
const READ_AHEAD: usize = 256;

/// Blocks looked up at once.
const BLOCKS: usize = 64;

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    asked: QueryOf<PageQuery>,
) -> Answer<PageAnswer<EventAnswer>> {
    let asked = query(asked)?;
    let limit = asked.limit()?;
    let after: Option<EventCursor> = asked.after()?;
    let answer = blocking(shared, move |shared| {
        let mut data = events_after(&shared.state(), after, limit.saturating_add(1))
            .map_err(|error| internal(&error))?;
        let has_more = data.len() > limit;
        data.truncate(limit);
        Ok(PageAnswer {
            next: data.last().map(|event| event.cursor.clone()),
            has_more,
            data,
        })
    });
    answer.await.map(Json)
}

/// At most `limit` events behind `after`, in order.
fn events_after(
    state: &ChainState,
    after: Option<EventCursor>,
    limit: usize,
) -> Result<Vec<EventAnswer>, StateStoreError> {
    let mut found = Vec::new();
    let mut from = after.map_or(BlockHeight::ZERO, |after| after.height);
    loop {
        let heights = state.heights_with_events(from, BLOCKS)?;
        for height in &heights {
            append_block(state, *height, after, &mut found)?;
            if found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
        match heights.last() {
            Some(last) if heights.len() == BLOCKS => from = last.next(),
            _ => return Ok(found),
        }
    }
}

fn append_block(
    state: &ChainState,
    height: BlockHeight,
    after: Option<EventCursor>,
    found: &mut Vec<EventAnswer>,
) -> Result<(), StateStoreError> {
    let missing = |record| StateStoreError::Missing { record, height };
    let summary = state.summary(height)?.ok_or_else(|| missing("summary"))?;
    let receipts = state.receipts(height)?.ok_or_else(|| missing("receipts"))?;
    for (receipt, index) in receipts.into_vec().into_iter().zip(0..) {
        let transaction = receipt.tx;
        for (event, number) in receipt.events.into_vec().into_iter().zip(0..) {
            let cursor = EventCursor {
                height,
                receipt: index,
                event: number,
            };
            if Some(cursor) > after {
                found.push(EventAnswer {
                    cursor: cursor.to_string(),
                    height,
                    time_ms: summary.header.time_ms,
                    transaction,
                    event,
                });
            }
        }
    }
    Ok(())
}

/// Where one client's stream stands.
struct Place {
    shared: Arc<Shared>,
    heights: watch::Receiver<BlockHeight>,
    after: Option<EventCursor>,
    ahead: VecDeque<EventAnswer>,
}

/// Starts behind `Last-Event-ID`, or `?after=`, or at genesis. Each event once and in order; a
/// client that is slow is read for later, never dropped.
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    last: LastEventId,
    asked: QueryOf<PageQuery>,
) -> Result<Response, Problem> {
    let asked = query(asked)?;
    let after: Option<EventCursor> = match &last.0 {
        Some(text) => Some(parsed("last-event-id", text)?),
        None => asked.after()?,
    };
    let place = Place {
        heights: shared.heights.subscribe(),
        shared,
        after,
        ahead: VecDeque::new(),
    };
    Ok(sse_stream(unfold(place, next_event)))
}

/// `None` ends the stream: the node stops, or failed, which its log tells.
async fn next_event(mut place: Place) -> Option<(SseEvent, Place)> {
    while place.ahead.is_empty() {
        // Marked as seen before reading, so that a block made meanwhile is not slept over.
        place.heights.borrow_and_update();
        let after = place.after;
        let read = blocking(Arc::clone(&place.shared), move |shared| {
            events_after(&shared.state(), after, READ_AHEAD).map_err(|error| internal(&error))
        });
        place.ahead = read.await.ok()?.into();
        if place.ahead.is_empty() {
            place.heights.changed().await.ok()?;
        }
    }
    let event = place.ahead.pop_front()?;
    place.after = event.cursor.parse().ok();
    let value = serde_json::to_value(&event).ok()?;
    let name = value
        .pointer("/event/type")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let sent = SseEvent {
        id: event.cursor,
        event: name,
        data: value.to_string(),
    };
    Some((sent, place))
}
