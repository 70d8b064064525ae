//! Refusals as `application/problem+json`.
//!
//! Source: RFC 9457 §3. `type` is the relative reference `/problems/<code>`: it resolves against
//! whatever host the API is reached at.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

/// One field of a request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer into the request body. Source: RFC 6901.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub detail: String,
}

/// A refusal that says what, with which value, and what next.
///
/// `instance` is the request id; the server fills it in, handlers leave it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
    instance: Option<String>,
}

/// The members on the wire.
#[derive(Serialize)]
struct Wire<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A refusal with a stable `code` in snake case; the title is the code in words.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            instance: None,
        }
    }

    /// The problem of a bare status, for answers that carry none of their own.
    #[must_use]
    pub fn of_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let code = match status.as_u16() {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            405 => "method_not_allowed",
            408 => "request_timeout",
            409 => "conflict",
            411 => "length_required",
            413 => "body_too_large",
            415 => "unsupported_media_type",
            422 => "unprocessable",
            429 => "too_many_requests",
            503 => "unavailable",
            504 => "upstream_timeout",
            _ if status.is_client_error() => "refused",
            _ => "internal",
        };
        Self::new(status, code, detail)
    }

    /// Adds one refused field.
    #[must_use]
    pub fn with_error(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds a `Retry-After` header, in seconds.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Stable machine-readable code, snake case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What happened this time.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn with_instance(mut self, request_id: &str) -> Self {
        self.instance = Some(request_id.to_owned());
        self
    }

    /// The JSON document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            r#type: format!("/problems/{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            instance: self.instance.as_deref(),
            errors: &self.errors,
        };
        // Strings and integers only: serialisation has no way to fail.
        serde_json::to_vec(&wire).unwrap_or_default()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl IntoResponse for Problem {
    /// The response also carries the problem as an extension, so that the server can add the
    /// request id that a handler does not know.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(StatusCode::CONFLICT, "package_exhausted", "no bytes left")
            .with_error("/bytes", "at most 10")
            .with_instance("r-1");

        let value: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();

        assert_eq!(
            value,
            serde_json::json!({
                "type": "/problems/package_exhausted", "title": "package exhausted",
                "status": 409, "detail": "no bytes left", "code": "package_exhausted",
                "instance": "r-1", "errors": [{"pointer": "/bytes", "detail": "at most 10"}]
            })
        );
    }
}
