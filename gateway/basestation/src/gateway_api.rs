//! The gateway as the BaseStation sees it: three calls, behind a trait so that tests need no gateway.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use qlink_api::session::{CloseSessionRequest, OpenSessionRequest, OpenedSession};
use qlink_api::tunnel::{EnrolTunnelRequest, EnrolledTunnel};
use qlink_types::ids::{BaseStationId, SessionId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest answer read, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts per call, all with the same idempotency key.
const ATTEMPTS_MAX: u32 = 4;

/// Pause before the second attempt; doubled each time, plus up to half of it by chance.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a call to the gateway brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The gateway refused; trying again would not help.
    #[error("gateway refused with status {status}: {problem}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The answer's `type`, `title` and `detail`, as far as they are there.
        problem: String,
    },
    /// No usable answer came in any attempt; the call may or may not have had its effect.
    #[error("gateway did not answer: {0}")]
    Unreachable(String),
    /// The answer is not what the API promises.
    #[error("gateway's answer is unreadable")]
    Format(#[source] serde_json::Error),
}

impl GatewayError {
    /// Whether the gateway refused for this reason.
    pub(crate) fn is_refused_as(&self, code: &str) -> bool {
        match self {
            Self::Refused { problem, .. } => {
                let kind = problem.split(": ").next().unwrap_or_default();
                kind.rsplit('/').next() == Some(code)
            }
            _ => false,
        }
    }
}

/// The gateway's session calls.
pub trait GatewayApi: Send + Sync {
    /// `POST /v1/sessions`. The same `key` again opens no second session.
    ///
    /// # Errors
    ///
    /// [`GatewayError`].
    fn open(&self, key: &str, request: &OpenSessionRequest) -> Result<OpenedSession, GatewayError>;

    /// `POST /v1/sessions/{id}/close`; the answer is the session as the gateway shows it. The same
    /// `key` again changes nothing.
    ///
    /// # Errors
    ///
    /// [`GatewayError`].
    fn close(
        &self,
        key: &str,
        session: SessionId,
        request: &CloseSessionRequest,
    ) -> Result<serde_json::Value, GatewayError>;

    /// `PUT /v1/basestations/{id}/tunnel`. The same request again is answered the same.
    ///
    /// # Errors
    ///
    /// [`GatewayError`].
    fn enrol(
        &self,
        basestation: BaseStationId,
        request: &EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, GatewayError>;
}

impl<T: GatewayApi + ?Sized> GatewayApi for Arc<T> {
    fn open(&self, key: &str, request: &OpenSessionRequest) -> Result<OpenedSession, GatewayError> {
        (**self).open(key, request)
    }

    fn close(
        &self,
        key: &str,
        session: SessionId,
        request: &CloseSessionRequest,
    ) -> Result<serde_json::Value, GatewayError> {
        (**self).close(key, session, request)
    }

    fn enrol(
        &self,
        basestation: BaseStationId,
        request: &EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, GatewayError> {
        (**self).enrol(basestation, request)
    }
}

/// The gateway over HTTP/1.1.
#[derive(Debug)]
pub struct HttpGateway {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: tokio::runtime::Runtime,
}

impl HttpGateway {
    /// A client of the gateway at `base`, for example `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// The system's, when no runtime thread can be started.
    pub fn new(base: &str) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gateway-api")
            .enable_all()
            .build()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client,
            runtime,
        })
    }

    fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &Q,
    ) -> Result<A, GatewayError> {
        self.call((Method::POST, path), Some(key), body)
    }

    /// A call that may be repeated: by its key, or because it is a `PUT`.
    fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        (method, path): (Method, &str),
        key: Option<&str>,
        body: &Q,
    ) -> Result<A, GatewayError> {
        let body = Bytes::from(serde_json::to_vec(body).map_err(GatewayError::Format)?);
        let url = format!("{}{path}", self.base);
        let mut pause = PAUSE;
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                std::thread::sleep(pause.saturating_add(jitter(pause)));
                pause = pause.saturating_mul(2);
            }
            // The timer must be made inside the runtime.
            let once = async {
                let attempt = self.attempt((method.clone(), &url), key, body.clone());
                tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await
            };
            match self.runtime.block_on(once) {
                Ok(Ok((status, bytes))) if status.is_success() => {
                    return serde_json::from_slice(&bytes).map_err(GatewayError::Format);
                }
                Ok(Ok((status, bytes))) if !is_transient(status) => {
                    return Err(GatewayError::Refused {
                        status: status.as_u16(),
                        problem: problem(&bytes),
                    });
                }
                Ok(Ok((status, _))) => reason = format!("status {status}"),
                Ok(Err(error)) => reason = error,
                Err(_) => reason = format!("no answer within {ATTEMPT_TIMEOUT:?}"),
            }
        }
        Err(GatewayError::Unreachable(reason))
    }

    async fn attempt(
        &self,
        (method, url): (Method, &str),
        key: Option<&str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX);
        let bytes = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok((status, bytes))
    }
}

impl GatewayApi for HttpGateway {
    fn open(&self, key: &str, request: &OpenSessionRequest) -> Result<OpenedSession, GatewayError> {
        self.post("/v1/sessions", key, request)
    }

    fn close(
        &self,
        key: &str,
        session: SessionId,
        request: &CloseSessionRequest,
    ) -> Result<serde_json::Value, GatewayError> {
        self.post(&format!("/v1/sessions/{session}/close"), key, request)
    }

    fn enrol(
        &self,
        basestation: BaseStationId,
        request: &EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, GatewayError> {
        let path = format!("/v1/basestations/{basestation}/tunnel");
        self.call((Method::PUT, &path), None, request)
    }
}

/// Statuses after which the same call may succeed.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// What a problem document says, in one line.
fn problem(bytes: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let parts = ["type", "title", "detail"].map(|field| document.get(field)?.as_str());
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

pub(crate) fn jitter(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    (pause / 2).saturating_mul(nanos % 1024) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    /// A server that gives these answers, one per connection; the idempotency keys come back.
    fn server(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut keys = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let line = line.trim().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.parse().unwrap();
                    }
                    keys.extend(line.strip_prefix("idempotency-key: ").map(str::to_owned));
                    if line.is_empty() {
                        break;
                    }
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                let body = answer.split_once('|').unwrap();
                let head = format!(
                    "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    body.0,
                    body.1.len(),
                    body.1
                );
                reader.get_mut().write_all(head.as_bytes()).unwrap();
            }
            keys
        });
        (base, thread)
    }

    #[test]
    fn transient_failure_is_tried_again_under_the_same_key() {
        let (base, thread) = server(&["503 Busy|", r#"200 OK|{"state":"closed"}"#]);
        let gateway = HttpGateway::new(&base).unwrap();

        let answer: serde_json::Value = gateway
            .post("/v1/sessions", "key-1", &serde_json::json!({}))
            .unwrap();

        assert_eq!(answer["state"], "closed");
        assert_eq!(thread.join().unwrap(), ["key-1", "key-1"]);
    }

    #[test]
    fn refusal_is_final_and_carries_its_reason() {
        let (base, thread) =
            server(&[r#"409 Conflict|{"type":"package_exhausted","detail":"0 bytes left"}"#]);
        let gateway = HttpGateway::new(&base).unwrap();

        let error = gateway
            .post::<_, serde_json::Value>("/v1/sessions", "key-1", &serde_json::json!({}))
            .unwrap_err();

        assert_eq!(
            error.to_string(),
            "gateway refused with status 409: package_exhausted: 0 bytes left"
        );
        assert_eq!(thread.join().unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_is_known_by_the_code_of_its_type() {
        let refused = |problem: &str| GatewayError::Refused {
            status: 403,
            problem: problem.to_owned(),
        };

        for (problem, is) in [
            ("/problems/tunnel_key_denied: title: detail", true),
            ("tunnel_key_denied: detail", true),
            ("/problems/basestation_denied: tunnel_key_denied", false),
            ("", false),
        ] {
            assert_eq!(refused(problem).is_refused_as("tunnel_key_denied"), is);
        }
    }

    #[test]
    fn absent_gateway_is_told_after_bounded_attempts() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let gateway = HttpGateway::new(&format!("http://{address}")).unwrap();

        let error = gateway
            .post::<_, serde_json::Value>("/v1/sessions", "key-1", &serde_json::json!({}))
            .unwrap_err();

        assert!(matches!(error, GatewayError::Unreachable(_)), "{error}");
    }
}
