//! Server-sent events: framing, keep-alive comments, `Last-Event-ID`.
//!
//! Source: WHATWG HTML §9.2. The stream is pulled by the socket, so nothing is buffered here
//! beyond one event; a producer that fans out must bound its own channel.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{Stream, StreamExt, unfold};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use crate::problem::Problem;

/// Pause after which a comment keeps proxies and the write deadline informed (chosen: half of
/// the 30 s that common proxies allow).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes of a `Last-Event-ID` that we accept.
pub const LAST_EVENT_ID_BYTES_MAX: usize = 128;

/// One event. Line breaks in `id` and `event` are removed; `data` may have many lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Where the client resumes from; empty = not sent.
    pub id: String,
    /// Kind of event; empty = `message`.
    pub event: String,
    /// Payload, usually one JSON object.
    pub data: String,
}

impl Event {
    fn encode(&self) -> Bytes {
        let mut out = String::with_capacity(self.data.len().saturating_add(64));
        for (name, value) in [("id: ", &self.id), ("event: ", &self.event)] {
            if !value.is_empty() {
                out.push_str(name);
                out.extend(value.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')));
                out.push('\n');
            }
        }
        let data = self.data.replace("\r\n", "\n").replace('\r', "\n");
        for line in data.split('\n') {
            out.push_str("data: ");
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
        out.into()
    }
}

/// A `text/event-stream` answer with a comment every 15 s of silence.
///
/// The server ends it by itself when it drains; clients reconnect with `Last-Event-ID`.
pub fn sse_stream(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    sse_stream_every(events, KEEP_ALIVE)
}

/// [`sse_stream`] with another keep-alive pause.
pub fn sse_stream_every(
    events: impl Stream<Item = Event> + Send + 'static,
    keep_alive: Duration,
) -> Response {
    let events: Pin<Box<dyn Stream<Item = Event> + Send>> = Box::pin(events);
    // The comment at once lets a client see the stream is open before the first event.
    let opening = futures::stream::once(async { Bytes::from_static(b": open\n\n") });
    let framed = unfold(events, move |mut events| async move {
        match tokio::time::timeout(keep_alive, events.next()).await {
            Ok(Some(event)) => Some((event.encode(), events)),
            Ok(None) => None,
            Err(_) => Some((Bytes::from_static(b": keep-alive\n\n"), events)),
        }
    });
    let body = Body::from_stream(opening.chain(framed).map(Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The `Last-Event-ID` header, if the client resumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEventId(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("last-event-id") else {
            return Ok(Self(None));
        };
        match value.to_str() {
            Ok(text) if text.len() <= LAST_EVENT_ID_BYTES_MAX => {
                Ok(Self((!text.is_empty()).then(|| text.to_owned())))
            }
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_last_event_id",
                format!("last-event-id is at most {LAST_EVENT_ID_BYTES_MAX} visible characters"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cannot_inject_fields_through_its_id_or_data() {
        let event = Event {
            id: "7\ndata: x".into(),
            event: "batch\r".into(),
            data: "{\"a\":1}\nid: 9\r\nz".into(),
        };

        let text = String::from_utf8(event.encode().to_vec()).unwrap();

        assert_eq!(
            text,
            "id: 7data: x\nevent: batch\ndata: {\"a\":1}\ndata: id: 9\ndata: z\n\n"
        );
    }
}
