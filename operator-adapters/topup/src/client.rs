//! Signed requests with a deadline, a bounded answer, and retries where they are harmless.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use qlink_operator::{SIGNATURE_HEADER, SharedKey, TIMESTAMP_HEADER, signing_input};

use crate::wire::sign;

/// Bytes of an answer that are read: a full statement page fits.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const IDLE_CONNECTIONS_MAX: usize = 4;
/// First pause between tries; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a request may be sent again when its fate is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Up to that many tries in all.
    Tries(u32),
    /// One try.
    Never,
}

/// An answer of the platform.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// No answer: the effect may or may not have happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within the deadline")]
    Deadline,
    #[error("the connection failed")]
    Connection(#[source] hyper_util::client::legacy::Error),
    #[error("the answer broke off or is too large")]
    Body,
    #[error("the request cannot be built")]
    Request(#[source] http::Error),
}

pub(crate) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    key: SharedKey,
    deadline: Duration,
    jitter: RandomState,
}

impl HttpClient {
    /// `base` is `http://host:port` without a path.
    pub(crate) fn new(base: String, key: SharedKey, deadline: Duration) -> Self {
        // hyper-util would repeat a request on a stale connection by itself: retries are ours.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .retry_canceled_requests(false)
            .build_http();
        Self {
            client,
            base,
            key,
            deadline,
            jitter: RandomState::new(),
        }
    }

    pub(crate) const fn key(&self) -> &SharedKey {
        &self.key
    }

    /// One exchange, repeated after no answer or a 5xx as `repeat` allows.
    pub(crate) async fn exchange(
        &self,
        method: &Method,
        target: &str,
        body: Bytes,
        repeat: Repeat,
    ) -> Result<Answered, NoAnswer> {
        let tries = match repeat {
            Repeat::Tries(tries) => tries.max(1),
            Repeat::Never => 1,
        };
        let mut pause = PAUSE;
        for _ in 1..tries {
            match self.once(method, target, body.clone()).await {
                Ok(answer) if !answer.status.is_server_error() => return Ok(answer),
                Ok(answer) => tracing::debug!(status = %answer.status, "platform failed, again"),
                Err(error) => tracing::debug!(%error, "no answer, again"),
            }
            tokio::time::sleep(self.jittered(pause)).await;
            pause = pause.saturating_mul(2);
        }
        self.once(method, target, body).await
    }

    async fn once(&self, method: &Method, target: &str, body: Bytes) -> Result<Answered, NoAnswer> {
        let time = now_ms();
        let signature = sign(
            &self.key,
            &signing_input(method.as_str(), target, time, &body),
        );
        let uri: Uri = format!("{}{target}", self.base)
            .parse()
            .map_err(|error: http::uri::InvalidUri| NoAnswer::Request(error.into()))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, time)
            .header(SIGNATURE_HEADER, signature)
            .body(Full::new(body))
            .map_err(NoAnswer::Request)?;
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(NoAnswer::Connection)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| NoAnswer::Body)?.to_bytes();
            Ok(Answered {
                status: parts.status,
                body,
            })
        };
        tokio::time::timeout(self.deadline, exchange)
            .await
            .unwrap_or(Err(NoAnswer::Deadline))
    }

    /// Between half the pause and the whole of it, so that gateways do not come back in step.
    fn jittered(&self, pause: Duration) -> Duration {
        let mut hasher = self.jitter.build_hasher();
        hasher.write_u64(now_ms());
        let spread = u32::try_from(hasher.finish() % 512).unwrap_or(0);
        pause
            .saturating_mul(spread.saturating_add(512))
            .checked_div(1024)
            .unwrap_or(pause)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
