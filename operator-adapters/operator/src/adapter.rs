//! What an adapter does for the core.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::op::{Money, Op, OpId, Outcome, Profile};
use crate::reconcile::{Line, Statement};

/// A boxed answer: it makes [`OperatorAdapter`] usable as `dyn`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Pages of one statement that are read at most; 1,000 lines each at the simulated operator.
const STATEMENT_PAGES_MAX: usize = 10_000;

/// A span of the operator's clock: from `from_ms` up to and without `until_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// First millisecond.
    #[serde(with = "qlink_types::text")]
    pub from_ms: u64,
    /// First millisecond after the period.
    #[serde(with = "qlink_types::text")]
    pub until_ms: u64,
}

/// One line of an operator's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementLine {
    /// What the line is joined by: a package id for carriage.
    pub reference: String,
    /// Bytes the operator counted.
    #[serde(with = "qlink_types::text")]
    pub bytes: u64,
    /// Units (10^-8 QLC) the operator expects.
    #[serde(with = "qlink_types::text")]
    pub units: u64,
    /// When the operator's record closed, milliseconds since 1970.
    #[serde(with = "qlink_types::text")]
    pub time_ms: u64,
}

/// One page of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementPage {
    /// Lines in the operator's order.
    pub lines: Vec<StatementLine>,
    /// Cursor of the next page; none on the last.
    pub next: Option<String>,
    /// Sum of units over all pages, as the operator states it.
    #[serde(with = "qlink_types::text")]
    pub total_units: u64,
}

/// Why a question that changes nothing got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// No answer, or a broken one; asking again is harmless.
    #[error("the operator gave no answer: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
    },
    /// The operator refused the question.
    #[error("the operator refused with status {status}: {detail}")]
    Refused {
        /// HTTP status or the protocol's own code.
        status: u16,
        /// The operator's words, cut.
        detail: String,
    },
    /// The answer does not follow the operator's own format.
    #[error("the operator's answer is not readable: {detail}")]
    Unreadable {
        /// What was wrong.
        detail: String,
    },
    /// A statement without end, or one that states two totals.
    #[error("the operator's statement is inconsistent: {detail}")]
    Inconsistent {
        /// What was wrong.
        detail: &'static str,
    },
}

/// A link to one operator.
///
/// `submit` and `resolve` never fail: what is not known is [`Outcome::Unknown`].
pub trait OperatorAdapter: Send + Sync {
    /// What this operator is like.
    fn profile(&self) -> &Profile;

    /// Asks for an operation; the caller has made its Intent durable.
    fn submit<'a>(&'a self, id: OpId, op: &'a Op) -> Answer<'a, Outcome>;

    /// Finds out what became of it: the only legal step after [`Outcome::Unknown`]. It may send
    /// the operation again, under the same id, where the operator's [`crate::DedupClass`] makes
    /// that harmless.
    fn resolve<'a>(&'a self, id: OpId, op: &'a Op) -> Answer<'a, Outcome>;

    /// One page of the operator's statement, from a cursor of the page before.
    fn statement<'a>(
        &'a self,
        period: Period,
        cursor: Option<&'a str>,
    ) -> Answer<'a, Result<StatementPage, AdapterError>>;

    /// Whether `signature` is the operator's over a statement root (`0x` and 64 digits).
    fn verify_countersignature(&self, statement_root: &str, signature: &str) -> bool;

    /// Our balance at the operator.
    fn balance(&self) -> Answer<'_, Result<Money, AdapterError>>;
}

/// Reads all pages of a statement.
///
/// # Errors
///
/// What the adapter reports; [`AdapterError::Inconsistent`] when the pages state different totals
/// or do not end.
pub async fn fetch_statement(
    adapter: &dyn OperatorAdapter,
    period: Period,
) -> Result<Statement, AdapterError> {
    let mut lines = Vec::new();
    let mut cursor: Option<String> = None;
    let mut stated: Option<u64> = None;
    for _ in 0..STATEMENT_PAGES_MAX {
        let page = adapter.statement(period, cursor.as_deref()).await?;
        if *stated.get_or_insert(page.total_units) != page.total_units {
            return Err(AdapterError::Inconsistent {
                detail: "pages state different totals",
            });
        }
        lines.extend(page.lines.into_iter().map(Line::from));
        match page.next {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            Some(_) => {
                return Err(AdapterError::Inconsistent {
                    detail: "a cursor repeats",
                });
            }
            None => {
                return Ok(Statement {
                    lines,
                    stated_units: page.total_units,
                });
            }
        }
    }
    Err(AdapterError::Inconsistent {
        detail: "the pages do not end",
    })
}
