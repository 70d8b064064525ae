//! The newest final blocks. A final block never changes, so each is read from the node once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use qlink_client::rpc::StatusAnswer;
use qlink_types::outcome::TxReceipt;
use qlink_types::units::BlockHeight;

use super::figures::{grouped, short, time};
use crate::service::Service;

/// Blocks that a page shows.
const SHOWN: u64 = 8;

/// A block as the page shows it.
#[derive(Debug, Clone)]
pub(super) struct BlockRow {
    /// Its height.
    pub height: String,
    /// Its ledger time.
    pub time: String,
    /// How many transactions it holds.
    pub transactions: String,
    /// What happened in it.
    pub events: String,
    /// Its id.
    pub id: String,
    /// Its id, shortened.
    pub short: String,
}

/// The blocks read last.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    rows: Mutex<BTreeMap<u64, BlockRow>>,
}

impl Blocks {
    /// The newest final blocks, newest first; those that the node does not hand out are left out.
    pub(super) async fn newest(
        &self,
        service: &Arc<Service>,
        status: &StatusAnswer,
    ) -> Vec<BlockRow> {
        let newest = status.final_height.get();
        let oldest = newest.saturating_add(1).saturating_sub(SHOWN);
        let missing: Vec<u64> = {
            let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            (oldest..=newest)
                .filter(|height| !rows.contains_key(height))
                .collect()
        };
        let read = join_all(missing.into_iter().map(|height| read(service, height))).await;
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.extend(read.into_iter().flatten());
        rows.retain(|height, _| (oldest..=newest).contains(height));
        rows.values().rev().cloned().collect()
    }
}

async fn read(service: &Service, height: u64) -> Option<(u64, BlockRow)> {
    let block = service.node.block(BlockHeight::new(height)).await.ok()??;
    let transactions = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
    let id = block.id.to_string();
    Some((
        height,
        BlockRow {
            height: grouped(height),
            time: time(block.header.time_ms),
            transactions: grouped(transactions),
            events: happened(&block.receipts),
            short: short(&id),
            id,
        },
    ))
}

/// Kinds of events in the order of their first, with their number where it is above one.
fn happened(receipts: &[TxReceipt]) -> String {
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for event in receipts.iter().flat_map(|receipt| receipt.events.iter()) {
        let value = serde_json::to_value(event).unwrap_or_default();
        let name = value.get("type").and_then(|kind| kind.as_str());
        let name = name.unwrap_or("event");
        match kinds.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => kinds.push((name.to_owned(), 1)),
        }
    }
    let texts: Vec<String> = kinds
        .into_iter()
        .map(|(name, count)| match count {
            1 => name,
            count => format!("{name} × {}", grouped(count)),
        })
        .collect();
    if texts.is_empty() {
        "no event".to_owned()
    } else {
        texts.join(", ")
    }
}
