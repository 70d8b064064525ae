//! The provider's and wallets' use of the REST API: quote, sign, submit, wait until final.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use qlink_api::transaction::{Quote, SubmitRequest, Submitted, TransactionState, TransactionView};
use qlink_client::http::JsonClient;
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::ids::TxId;
use qlink_types::transaction::{SignedTransaction, Transaction};
use serde::Serialize;

/// How long a submitted transaction may take to become final.
const FINAL_WITHIN: Duration = Duration::from_secs(20);

/// A user of the API.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    /// The gateway.
    pub(crate) http: JsonClient,
}

impl Rest {
    /// A user of the gateway at `base`.
    pub(crate) fn new(base: &str) -> Self {
        Self {
            http: JsonClient::new(base, Duration::from_secs(30)),
        }
    }

    /// Quotes at `{path}/quote`, signs, submits to `path`, and waits until it is final and accepted.
    pub(crate) async fn perform<R: Serialize + Sync>(
        &self,
        path: &str,
        request: &R,
        sign: impl FnOnce(Transaction) -> SignedTransaction,
    ) -> anyhow::Result<Quote> {
        let quote_path = format!("{path}/quote");
        let quote: Quote = self
            .http
            .retried(20, || self.http.post(&quote_path, request, None))
            .await
            .with_context(|| format!("no quote from {path}"))?;
        let unsigned = Transaction::from_bytes(&hex::decode(&quote.unsigned_transaction)?)
            .context("a quote holds no transaction")?;
        let signed = sign(unsigned);
        let submit = SubmitRequest {
            transaction: hex::encode(signed.to_bytes()),
        };
        let key = quote.transaction.to_string();
        let submitted: Submitted = self
            .http
            .retried(20, || self.http.post(path, &submit, Some(&key)))
            .await
            .with_context(|| format!("{path} did not take a signed transaction"))?;
        self.wait_final(submitted.transaction).await?;
        Ok(quote)
    }

    async fn wait_final(&self, id: TxId) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < FINAL_WITHIN {
            let path = format!("/v1/transactions/{id}");
            let view: TransactionView = self
                .http
                .retried(20, || self.http.get(&path))
                .await
                .context("no answer")?;
            if view.state == TransactionState::Final {
                return match view.status.as_deref() {
                    Some("accepted") => Ok(()),
                    other => bail!("transaction {id} ended as {}", other.unwrap_or("unknown")),
                };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!(
            "transaction {id} is not final after {} s",
            FINAL_WITHIN.as_secs()
        )
    }
}
