//! A node's RPC as typed calls.

use std::time::Duration;

use qlink_ledger::Params;
use qlink_types::codec::Encode as _;
use qlink_types::ids::{AccountId, ContentId, PackageId, TxId, ViewerKey};
use qlink_types::transaction::{Party, SignedTransaction};
use qlink_types::units::BlockHeight;
use tokio::time::Instant;

use crate::http::{HttpError, JsonClient};
use crate::rpc::{
    AccountAnswer, BlockAnswer, ContentAnswer, EventAnswer, PackageAnswer, PageAnswer, PartyAnswer,
    StatusAnswer, SubmitAnswer, SubmitRequest, TransactionAnswer, TransactionState, ViewerAnswer,
};
use crate::stake::{CandidateAnswer, SeatsAnswer, StakesAnswer};

/// How often a waiting call asks again.
const POLL: Duration = Duration::from_millis(25);

/// Attempts of a call that may be repeated.
const ATTEMPTS: u32 = 4;

/// Why a transaction did not become final in time.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The node did not take it, or could not be asked.
    #[error("transaction {id} was not taken")]
    Call {
        /// Which.
        id: TxId,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// It was taken but is not final yet; it may still become so.
    #[error("transaction {id} is not final after {}", crate::http::seconds(.after))]
    NotFinal {
        /// Which.
        id: TxId,
        /// How long was waited.
        after: Duration,
    },
}

/// A client of one node.
#[derive(Debug, Clone)]
pub struct ChainClient {
    http: JsonClient,
}

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails with HttpError in the same ways"
)]
impl ChainClient {
    /// A client for the node at `base`, for example `http://127.0.0.1:7001`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self {
            http: JsonClient::new(base, Duration::from_secs(5)),
        }
    }

    /// The node's address.
    #[must_use]
    pub fn base(&self) -> &str {
        self.http.base()
    }

    /// Where the chain stands.
    pub async fn status(&self) -> Result<StatusAnswer, HttpError> {
        self.read("/v1/status").await
    }

    /// The fee schedule and limits.
    pub async fn fees(&self) -> Result<Params, HttpError> {
        self.read("/v1/fees").await
    }

    /// An account.
    pub async fn account(&self, id: &AccountId) -> Result<AccountAnswer, HttpError> {
        self.read(&format!("/v1/accounts/{id}")).await
    }

    /// Candidates in the order of their ids.
    pub async fn candidates(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<PageAnswer<CandidateAnswer>, HttpError> {
        self.read(&page_path("/v1/candidates", after, limit)).await
    }

    /// A candidate for a seat, if there is one.
    pub async fn candidate(&self, id: &AccountId) -> Result<Option<CandidateAnswer>, HttpError> {
        optional(self.read(&format!("/v1/candidates/{id}")).await)
    }

    /// Who sits and who comes next.
    pub async fn seats(&self) -> Result<SeatsAnswer, HttpError> {
        self.read("/v1/seats").await
    }

    /// What an account has behind candidates, and what is on its way back.
    pub async fn stakes(&self, id: &AccountId) -> Result<StakesAnswer, HttpError> {
        self.read(&format!("/v1/accounts/{id}/stakes")).await
    }

    /// A content, if registered.
    pub async fn content(&self, id: &ContentId) -> Result<Option<ContentAnswer>, HttpError> {
        optional(self.read(&format!("/v1/contents/{id}")).await)
    }

    /// A package, if bought.
    pub async fn package(&self, id: &PackageId) -> Result<Option<PackageAnswer>, HttpError> {
        optional(self.read(&format!("/v1/packages/{id}")).await)
    }

    /// Packages in the order of their ids.
    pub async fn packages(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<PageAnswer<PackageAnswer>, HttpError> {
        self.read(&page_path("/v1/packages", after, limit)).await
    }

    /// Viewers of a package in the order of their keys.
    pub async fn viewers(
        &self,
        package: &PackageId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<PageAnswer<ViewerAnswer>, HttpError> {
        let path = format!("/v1/packages/{package}/viewers");
        self.read(&page_path(&path, after, limit)).await
    }

    /// One viewer of a package, if it has used any of it.
    pub async fn viewer(
        &self,
        package: &PackageId,
        viewer: &ViewerKey,
    ) -> Result<Option<ViewerAnswer>, HttpError> {
        optional(
            self.read(&format!("/v1/packages/{package}/viewers/{viewer}"))
                .await,
        )
    }

    /// A gateway, BaseStation or operator, if registered.
    pub async fn party(&self, party: &Party) -> Result<Option<PartyAnswer>, HttpError> {
        let id = match party {
            Party::Gateway { gateway } => gateway.to_string(),
            Party::BaseStation { basestation } => basestation.to_string(),
            Party::Operator { operator } => operator.to_string(),
        };
        optional(self.read(&format!("/v1/parties/{id}")).await)
    }

    /// A block, if final.
    pub async fn block(&self, height: BlockHeight) -> Result<Option<BlockAnswer>, HttpError> {
        optional(self.read(&format!("/v1/blocks/{height}")).await)
    }

    /// A transaction's state.
    pub async fn transaction(&self, id: &TxId) -> Result<TransactionAnswer, HttpError> {
        self.read(&format!("/v1/transactions/{id}")).await
    }

    /// Finalized events behind the cursor `after`; `None`: from genesis.
    pub async fn events(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<PageAnswer<EventAnswer>, HttpError> {
        self.read(&page_path("/v1/events", after, limit)).await
    }

    /// Hands a transaction to the node. Its id makes a repetition harmless.
    pub async fn submit(&self, transaction: &SignedTransaction) -> Result<TxId, HttpError> {
        let request = SubmitRequest {
            transaction: hex::encode(transaction.to_bytes()),
        };
        let answer: SubmitAnswer = self
            .http
            .retried(ATTEMPTS, || {
                self.http.post("/v1/transactions", &request, None)
            })
            .await?;
        Ok(answer.id)
    }

    /// Submits and waits until the transaction is in a final block; its receipt tells what it did.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] when it is refused at once or not final within `deadline`.
    pub async fn submit_and_wait_final(
        &self,
        transaction: &SignedTransaction,
        deadline: Duration,
    ) -> Result<TransactionAnswer, SubmitError> {
        let id = transaction.id();
        let call = |source| SubmitError::Call { id, source };
        self.submit(transaction).await.map_err(call)?;
        let started = Instant::now();
        while started.elapsed() < deadline {
            let answer = self.transaction(&id).await.map_err(call)?;
            if answer.state == TransactionState::Final {
                return Ok(answer);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(SubmitError::NotFinal {
            id,
            after: deadline,
        })
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.http.retried(ATTEMPTS, || self.http.get(path)).await
    }
}

fn page_path(path: &str, after: Option<&str>, limit: usize) -> String {
    match after {
        Some(after) => format!("{path}?limit={limit}&after={after}"),
        None => format!("{path}?limit={limit}"),
    }
}

fn optional<T>(answer: Result<T, HttpError>) -> Result<Option<T>, HttpError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(HttpError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
