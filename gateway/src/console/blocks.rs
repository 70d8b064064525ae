//! The newest final blocks. A final block never changes, so each is read from the node once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use qlink_client::rpc::StatusAnswer;
use qlink_types::units::BlockHeight;

use super::figures::{counted, grouped, short, time};
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
    let events = block.receipts.iter().fold(0_usize, |sum, receipt| {
        sum.saturating_add(receipt.events.len())
    });
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let id = block.id.to_string();
    Some((
        height,
        BlockRow {
            height: grouped(height),
            time: time(block.header.time_ms),
            transactions: grouped(count(block.transactions.len())),
            events: counted(count(events), "event", "events"),
            short: short(&id),
            id,
        },
    ))
}
