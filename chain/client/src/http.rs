//! Plain HTTP/1.1 requests with JSON bodies, deadlines and a bound on answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest answer that is read, in bytes: a full block with its receipts as JSON.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not one.
    #[error("'{url}' is not a usable address")]
    Address {
        /// What was given.
        url: String,
    },
    /// No connection, or it broke.
    #[error("no answer from {url}: {detail}")]
    Transport {
        /// Which address.
        url: String,
        /// What the transport said.
        detail: String,
    },
    /// The deadline passed.
    #[error("no answer from {url} within {}", crate::http::seconds(.after))]
    Deadline {
        /// Which address.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server refused: a problem of RFC 9457, or another status.
    #[error("{status} {code}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's stable code, or `http_error`.
        code: String,
        /// The problem's detail, or the start of the body.
        detail: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of {url} is not understood: {detail}")]
    Answer {
        /// Which address.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl HttpError {
    /// Whether the request may have reached nobody, so that repeating an idempotent one is sound.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Deadline { .. } => true,
            Self::Refused { status, .. } => *status == 503 || *status == 429,
            Self::Address { .. } | Self::Answer { .. } => false,
        }
    }

    /// The problem's code, when the server refused.
    #[must_use]
    pub fn refusal_code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

pub(crate) fn seconds(duration: &Duration) -> String {
    format!("{}.{:03} s", duration.as_secs(), duration.subsec_millis())
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct JsonClient {
    base: String,
    inner: Client<HttpConnector, Full<Bytes>>,
    deadline: Duration,
}

impl JsonClient {
    /// A client for `base`, for example `http://127.0.0.1:8080`; each request takes at most
    /// `deadline`.
    #[must_use]
    pub fn new(base: &str, deadline: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(deadline));
        connector.set_nodelay(true);
        let inner = Client::builder(TokioExecutor::new()).build(connector);
        Self {
            base: base.trim_end_matches('/').to_owned(),
            inner,
            deadline,
        }
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET path`.
    ///
    /// # Errors
    ///
    /// Any [`HttpError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        let (url, bytes) = self.send(Method::GET, path, &[], Bytes::new()).await?;
        parse(&url, &bytes)
    }

    /// `POST path` with a JSON body and an idempotency key, so that a repetition is harmless.
    ///
    /// # Errors
    ///
    /// Any [`HttpError`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        idempotency_key: Option<&str>,
    ) -> Result<T, HttpError> {
        let body = serde_json::to_vec(body).map_err(|error| HttpError::Answer {
            url: path.to_owned(),
            detail: error.to_string(),
        })?;
        let mut headers = vec![("content-type", "application/json")];
        if let Some(key) = idempotency_key {
            headers.push(("idempotency-key", key));
        }
        let (url, bytes) = self
            .send(Method::POST, path, &headers, Bytes::from(body))
            .await?;
        parse(&url, &bytes)
    }

    /// `PUT path` with raw bytes.
    ///
    /// # Errors
    ///
    /// Any [`HttpError`].
    pub async fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, HttpError> {
        let headers = [("content-type", "application/octet-stream")];
        let (url, bytes) = self.send(Method::PUT, path, &headers, body).await?;
        parse(&url, &bytes)
    }

    /// Repeats `request` while it fails transiently, at most `attempts` times, with growing pauses.
    ///
    /// # Errors
    ///
    /// The last [`HttpError`].
    pub async fn retried<T, F, R>(&self, attempts: u32, mut request: F) -> Result<T, HttpError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, HttpError>>,
    {
        let mut pause = Duration::from_millis(50);
        let mut left = attempts;
        loop {
            left = left.saturating_sub(1);
            match request().await {
                Err(error) if error.is_transient() && left > 0 => {
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(String, Bytes), HttpError> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| HttpError::Address { url: url.clone() })?;
        let exchange = self.exchange(&url, request);
        match tokio::time::timeout(self.deadline, exchange).await {
            Ok(answer) => answer.map(|bytes| (url, bytes)),
            Err(_) => Err(HttpError::Deadline {
                url,
                after: self.deadline,
            }),
        }
    }

    async fn exchange(&self, url: &str, request: Request<Full<Bytes>>) -> Result<Bytes, HttpError> {
        let transport = |detail: String| HttpError::Transport {
            url: url.to_owned(),
            detail,
        };
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|error| transport(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| transport(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(refusal(status, &body))
    }
}

fn parse<T: DeserializeOwned>(url: &str, bytes: &[u8]) -> Result<T, HttpError> {
    serde_json::from_slice(bytes).map_err(|error| HttpError::Answer {
        url: url.to_owned(),
        detail: error.to_string(),
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> HttpError {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
        #[serde(default)]
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => HttpError::Refused {
            status: status.as_u16(),
            code: problem.code,
            detail: problem.detail,
        },
        Err(_) => HttpError::Refused {
            status: status.as_u16(),
            code: "http_error".to_owned(),
            detail: String::from_utf8_lossy(body).chars().take(200).collect(),
        },
    }
}
