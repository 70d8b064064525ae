//! Configuration and fault script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use qlink_operator::Money;
use serde::{Deserialize, Serialize};

/// A tariff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Smallest parts of the currency per started 10^6 bytes.
    pub units_per_mb: u64,
}

/// How the simulated operator runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen; port 0 takes any. Example: `127.0.0.1:7400`.
    pub addr: SocketAddr,
    /// File with the shared key, at least 16 bytes.
    pub key_path: PathBuf,
    /// Where callbacks go, `http://host:port/path`; none: no callbacks.
    pub callback_url: Option<String>,
    /// Folder for the durable state; none: the state lives in memory.
    pub dir: Option<PathBuf>,
    /// File with a fault script, JSON; none: it behaves.
    pub faults_path: Option<PathBuf>,
    /// Milliseconds a transaction rests in CONFIRMED, then in SUBMITTED.
    pub step_ms: u64,
    /// Tariffs by offer.
    pub offers: BTreeMap<String, Offer>,
    /// The customer's balance at the start.
    pub balance: Money,
    /// Lines per statement page, 1..=1000.
    pub page_lines: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            key_path: PathBuf::new(),
            callback_url: None,
            dir: None,
            faults_path: None,
            step_ms: 50,
            offers: BTreeMap::from([("data".to_owned(), Offer { units_per_mb: 1 })]),
            balance: Money {
                asset: "EUR".into(),
                scale: 2,
                units: 100_000_000,
            },
            page_lines: 100,
        }
    }
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// A create request.
    Create,
    /// A confirm request.
    Confirm,
    /// A query by reference.
    Query,
    /// A statement request.
    Statement,
    /// A transaction reaching COMPLETED.
    Complete,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The effect happens, the answer never comes.
    DropAnswer,
    /// The effect happens, the answer comes late.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Status 500, and no effect.
    Error500,
    /// The callback is sent twice.
    DuplicateCallback,
    /// The transaction ends DECLINED.
    Decline,
    /// The completed transaction is reversed later.
    LateReversal {
        /// Milliseconds after completion.
        after_ms: u64,
    },
    /// The statement's total is stated wrong.
    WrongTotal {
        /// Units too many.
        more_units: u64,
    },
    /// A line of the statement is wrong.
    WrongLine {
        /// Which line.
        line: String,
        /// Units too many.
        more_units: u64,
    },
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where it strikes.
    pub on: Point,
    /// Only the n-th time that point is passed, from 1; none: any.
    #[serde(default)]
    pub nth: Option<u64>,
    /// Only for this reference; none: any.
    #[serde(default)]
    pub reference: Option<String>,
    /// What it does.
    pub action: Action,
}

/// All faults; the first that fits strikes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultScript {
    /// In order.
    pub faults: Vec<Fault>,
}
