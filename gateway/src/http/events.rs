//! Finalized events: the list is the truth, the stream is the same rows as they come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use futures::stream;
use qlink_api::list::Page;
use qlink_client::rpc::EventAnswer;
use qlink_serve::{Event, Json, LastEventId, Problem, sse_stream};

use super::problem::from_node;
use super::read::Paging;
use crate::service::Service;

/// How often the stream looks for new events.
const POLL: Duration = Duration::from_millis(100);

/// Events that one look may bring.
const EVENTS: usize = 100;

/// Events behind a cursor.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    responses((status = 200, body = Page<Object>)))]
pub(crate) async fn events(
    State(service): State<Arc<Service>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<EventAnswer>>, Problem> {
    let answer = service
        .node
        .events(paging.after()?, paging.limit())
        .await
        .map_err(|error| from_node(&error))?;
    Ok(Json(Page {
        data: answer.data,
        has_more: answer.has_more,
        next: answer.next,
    }))
}

struct Follow {
    service: Arc<Service>,
    cursor: Option<String>,
    ready: VecDeque<EventAnswer>,
}

/// Events as they become final, resumed by `Last-Event-ID` or `after`.
#[utoipa::path(get, path = "/v1/events/stream", tag = "events",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn event_stream(
    State(service): State<Arc<Service>>,
    Query(paging): Query<Paging>,
    LastEventId(last): LastEventId,
) -> Result<Response, Problem> {
    let after = paging.after()?.map(str::to_owned);
    let follow = Follow {
        service,
        cursor: last.or(after),
        ready: VecDeque::new(),
    };
    Ok(sse_stream(stream::unfold(
        follow,
        |mut follow| async move {
            loop {
                if let Some(answer) = follow.ready.pop_front() {
                    follow.cursor = Some(answer.cursor.clone());
                    return Some((to_sse(&answer), follow));
                }
                // The node may restart while a stream is open: the stream waits for it.
                if let Ok(page) = follow
                    .service
                    .node
                    .events(follow.cursor.as_deref(), EVENTS)
                    .await
                {
                    follow.ready.extend(page.data);
                }
                if follow.ready.is_empty() {
                    tokio::time::sleep(POLL).await;
                }
            }
        },
    )))
}

fn to_sse(answer: &EventAnswer) -> Event {
    let value = serde_json::to_value(answer).unwrap_or_default();
    let kind = value
        .pointer("/event/type")
        .and_then(|kind| kind.as_str())
        .unwrap_or("event");
    Event {
        id: answer.cursor.clone(),
        event: kind.to_owned(),
        data: value.to_string(),
    }
}
