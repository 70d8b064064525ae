//! The simulated operator's own mediation: what feeds its meter's totals into its statement.
//!
//! In a real network these numbers come from the operator's core; here the simulated BaseStation
//! or the demo reports them. It is no part of any adapter.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use qlink_operator::{SIGNATURE_HEADER, SharedKey, TIMESTAMP_HEADER, signing_input};

use crate::http::{now_ms, sign};
use crate::operator::Usage;

const DEADLINE: Duration = Duration::from_secs(5);
const TARGET: &str = "/v1/usage";

/// Why usage was not taken; totals may be sent again at will.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No answer.
    #[error("the simulated operator at {addr} gave no answer")]
    NoAnswer {
        /// Where it should be.
        addr: SocketAddr,
    },
    /// Refused.
    #[error("the simulated operator refused usage with status {status}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
    },
    /// The usage does not make a request.
    #[error("the usage cannot be sent")]
    Unsendable,
}

/// Reports usage totals to a simulated operator.
pub struct Feed {
    addr: SocketAddr,
    key: SharedKey,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed to the operator at `addr` that shares `key`.
    #[must_use]
    pub fn new(addr: SocketAddr, key: SharedKey) -> Self {
        Self {
            addr,
            key,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Reports totals so far; smaller or equal ones change nothing.
    ///
    /// # Errors
    ///
    /// [`FeedError`].
    pub async fn report(&self, usage: &Usage) -> Result<(), FeedError> {
        let body = serde_json::to_vec(usage).map_err(|_| FeedError::Unsendable)?;
        let time = now_ms();
        let signature = sign(&self.key, &signing_input("POST", TARGET, time, &body));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{TARGET}", self.addr))
            .header(header::CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, time)
            .header(SIGNATURE_HEADER, signature)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| FeedError::Unsendable)?;
        let answer = tokio::time::timeout(DEADLINE, self.client.request(request)).await;
        match answer {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(FeedError::Refused {
                status: response.status(),
            }),
            Ok(Err(_)) | Err(_) => Err(FeedError::NoAnswer { addr: self.addr }),
        }
    }
}
