//! The JSON extractor whose every rejection is a [`Problem`].

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::BodyFault;
use crate::problem::Problem;

/// Bytes a JSON body may have: 1 MiB. The server's own cap applies first where it is smaller; a
/// server that takes larger uploads still takes no larger JSON.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// A JSON body in, a JSON body out.
///
/// As an extractor it refuses with 415 (`unsupported_media_type`), 413 (`body_too_large`), 408
/// (`request_timeout`), 400 (`malformed_json`: not JSON; `invalid_body`: JSON of another shape,
/// such as an unknown field where the type denies them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::of_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be sent as content-type: application/json",
            ));
        }
        let bytes = read_body(request.into_body()).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let code = match error.classify() {
                serde_json::error::Category::Data => "invalid_body",
                serde_json::error::Category::Io
                | serde_json::error::Category::Syntax
                | serde_json::error::Category::Eof => "malformed_json",
            };
            Problem::new(StatusCode::BAD_REQUEST, code, error.to_string())
        })
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => {
                tracing::error!(%error, "response does not serialise");
                Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR, "the answer was lost")
                    .into_response()
            }
        }
    }
}

/// `application/json` or any `application/*+json`. Source: RFC 8259 §11, RFC 6839 §3.1.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read_body(body: Body) -> Result<bytes::Bytes, Problem> {
    to_bytes(body, JSON_BYTES_MAX).await.map_err(|error| {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            match current.downcast_ref::<BodyFault>() {
                Some(BodyFault::Deadline { .. }) => {
                    return Problem::of_status(StatusCode::REQUEST_TIMEOUT, current.to_string());
                }
                Some(BodyFault::TooLarge { .. }) => {
                    return Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE, current.to_string());
                }
                Some(BodyFault::Connection(_)) => {
                    return Problem::of_status(StatusCode::BAD_REQUEST, current.to_string());
                }
                None if current.is::<http_body_util::LengthLimitError>() => {
                    return Problem::of_status(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        format!("a JSON body has at most {JSON_BYTES_MAX} bytes"),
                    );
                }
                None => cause = current.source(),
            }
        }
        Problem::of_status(StatusCode::BAD_REQUEST, "the body could not be read")
    })
}
