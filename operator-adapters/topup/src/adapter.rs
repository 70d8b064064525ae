//! [`OperatorAdapter`] over the platform's API.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use qlink_operator::{
    AdapterError, Answer, DedupClass, Money, Op, OpId, OperatorAdapter, Outcome, Period, Profile,
    Reason, SharedKey, StatementPage, countersigning_input,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Answered, HttpClient, Repeat};
use crate::wire::{State, Transaction, verify};

/// Characters of a foreign answer that go into an error.
const DETAIL_CHARS_MAX: usize = 200;

/// How to reach a platform.
#[derive(Debug, Clone)]
pub struct TopUpConfig {
    /// `http://host:port`, without a path.
    pub base: String,
    /// What the platform is like.
    pub profile: Profile,
    /// From sending a request to the end of its answer. 10 s is usual.
    pub deadline: Duration,
    /// Tries of a request whose repetition is harmless; 3 is usual.
    pub tries: u32,
    /// Pause to state for a transaction that is not final, milliseconds; 1000 is usual.
    pub retry_after_ms: u64,
}

/// Why a platform cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TopUpError {
    /// The address is not `http://host:port`.
    #[error("{base:?} is not an address of the form http://host:port")]
    Base {
        /// What was given.
        base: String,
    },
}

/// A top-up platform.
pub struct TopUp {
    http: HttpClient,
    profile: Profile,
    tries: u32,
    retry_after_ms: u64,
}

impl std::fmt::Debug for TopUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopUp")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Create<'a> {
    reference: OpId,
    op: &'a Op,
}

impl TopUp {
    /// A platform; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`TopUpError::Base`].
    pub fn new(config: TopUpConfig, key: SharedKey) -> Result<Self, TopUpError> {
        let TopUpConfig {
            base,
            profile,
            deadline,
            tries,
            retry_after_ms,
        } = config;
        let base = base.trim_end_matches('/').to_owned();
        let uri = base.parse::<Uri>().ok();
        let good = uri.is_some_and(|uri| {
            uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.path() == "/"
        });
        if !good {
            return Err(TopUpError::Base { base });
        }
        let http = HttpClient::new(base, key, deadline);
        Ok(Self {
            http,
            profile,
            tries,
            retry_after_ms,
        })
    }

    /// Questions change nothing and are always repeated; requests only under a safe key.
    const fn repeat_effect(&self) -> Repeat {
        if self.profile.dedup.may_resend() {
            Repeat::Tries(self.tries)
        } else {
            Repeat::Never
        }
    }

    const fn unknown(&self) -> Outcome {
        Outcome::Unknown {
            retry_after_ms: self.retry_after_ms,
        }
    }

    async fn create_and_confirm(&self, id: OpId, op: &Op) -> Outcome {
        let Ok(body) = serde_json::to_vec(&Create { reference: id, op }) else {
            return Outcome::Rejected {
                reason: Reason::BadRequest,
            };
        };
        let created = match self.effect("/v1/transactions", body.into(), id).await {
            Ok(created) => created,
            Err(outcome) => return outcome,
        };
        if created.state == State::Created {
            self.confirm(&created).await
        } else {
            created.outcome(self.retry_after_ms)
        }
    }

    async fn confirm(&self, created: &Transaction) -> Outcome {
        let Some(id) = path_segment(&created.id) else {
            return self.unknown();
        };
        let target = format!("/v1/transactions/{id}/confirm");
        match self.effect(&target, Bytes::new(), created.reference).await {
            Ok(confirmed) => confirmed.outcome(self.retry_after_ms),
            // Created but not known to be confirmed: a refusal here is not a refusal of the whole.
            Err(Outcome::Rejected { .. } | Outcome::Unknown { .. } | Outcome::Done(_)) => {
                self.unknown()
            }
        }
    }

    /// A request with an effect: the transaction as it stands, or what is known without it.
    async fn effect(&self, target: &str, body: Bytes, id: OpId) -> Result<Transaction, Outcome> {
        let answer = self
            .http
            .exchange(&Method::POST, target, body, self.repeat_effect())
            .await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%id, %error, "outcome unknown");
            self.unknown()
        })?;
        match answer.status {
            status if status.is_success() => self.read(&answer, id),
            StatusCode::CONFLICT => Err(Outcome::Rejected {
                reason: Reason::KeyReused,
            }),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Err(Outcome::Rejected {
                reason: Reason::BadRequest,
            }),
            // 5xx after an effect, 401 from a clock that is off, 429: nobody knows or later.
            status => {
                tracing::warn!(%id, %status, "outcome unknown");
                Err(self.unknown())
            }
        }
    }

    fn read(&self, answer: &Answered, id: OpId) -> Result<Transaction, Outcome> {
        match serde_json::from_slice::<Transaction>(&answer.body) {
            Ok(transaction) if transaction.reference == id => Ok(transaction),
            _ => {
                tracing::error!(%id, "the platform answered with something else");
                Err(self.unknown())
            }
        }
    }

    async fn find_out(&self, id: OpId, op: &Op) -> Outcome {
        let target = format!("/v1/transactions?reference={id}");
        let tries = Repeat::Tries(self.tries);
        let answer = self
            .http
            .exchange(&Method::GET, &target, Bytes::new(), tries)
            .await;
        let Ok(answer) = answer else {
            return self.unknown();
        };
        match answer.status {
            StatusCode::OK => match self.read(&answer, id) {
                Ok(known) if known.state == State::Created => self.confirm(&known).await,
                Ok(known) => known.outcome(self.retry_after_ms),
                Err(outcome) => outcome,
            },
            // Never arrived, or still on its way: the same key makes both harmless.
            StatusCode::NOT_FOUND if self.profile.dedup.may_resend() => {
                self.create_and_confirm(id, op).await
            }
            _ => self.unknown(),
        }
    }

    /// A question that changes nothing.
    async fn ask<T: DeserializeOwned>(&self, target: &str) -> Result<T, AdapterError> {
        let tries = Repeat::Tries(self.tries);
        let answer = self
            .http
            .exchange(&Method::GET, target, Bytes::new(), tries)
            .await
            .map_err(|error| AdapterError::Unavailable {
                detail: error.to_string(),
            })?;
        if !answer.status.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            let detail = text.chars().take(DETAIL_CHARS_MAX).collect();
            return Err(AdapterError::Refused {
                status: answer.status.as_u16(),
                detail,
            });
        }
        serde_json::from_slice(&answer.body).map_err(|error| AdapterError::Unreadable {
            detail: error.to_string(),
        })
    }
}

impl OperatorAdapter for TopUp {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn submit<'a>(&'a self, id: OpId, op: &'a Op) -> Answer<'a, Outcome> {
        Box::pin(self.create_and_confirm(id, op))
    }

    fn resolve<'a>(&'a self, id: OpId, op: &'a Op) -> Answer<'a, Outcome> {
        if self.profile.dedup == DedupClass::None {
            // Cannot be asked: a callback or a person decides.
            return Box::pin(std::future::ready(self.unknown()));
        }
        Box::pin(self.find_out(id, op))
    }

    fn statement<'a>(
        &'a self,
        period: Period,
        cursor: Option<&'a str>,
    ) -> Answer<'a, Result<StatementPage, AdapterError>> {
        Box::pin(async move {
            let Period { from_ms, until_ms } = period;
            let mut target = format!("/v1/statement?from_ms={from_ms}&until_ms={until_ms}");
            if let Some(cursor) = cursor {
                let encoded = percent_encode(cursor);
                target.push_str("&cursor=");
                target.push_str(&encoded);
            }
            self.ask(&target).await
        })
    }

    fn verify_countersignature(&self, statement_root: &str, signature: &str) -> bool {
        verify(
            self.http.key(),
            &countersigning_input(statement_root),
            signature,
        )
    }

    fn balance(&self) -> Answer<'_, Result<Money, AdapterError>> {
        Box::pin(self.ask("/v1/balance"))
    }
}

/// A foreign id as a path segment, if it can stand in one unchanged.
fn path_segment(id: &str) -> Option<&str> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    ((1..=128).contains(&id.len()) && id.bytes().all(plain)).then_some(id)
}

/// Source: RFC 3986 §2.1, §2.3.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
