//! The chain's parameters: fee schedule and time limits, fixed at genesis.

use qlink_types::struct_codec;
use qlink_types::units::Units;
use serde::{Deserialize, Serialize};

use crate::stake::StakeParams;

/// Fees in units and limits in milliseconds of ledger time.
///
/// Claims are free: a claim must move something, so it cannot be repeated at no cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// A transfer.
    pub transfer_fee: Units,
    /// Registration of a gateway, BaseStation or operator.
    pub register_party_fee: Units,
    /// A new key for a party.
    pub rotate_key_fee: Units,
    /// Registration of a content.
    pub register_content_fee: Units,
    /// Purchase of a package.
    pub buy_package_fee: Units,
    /// A top-up.
    pub top_up_fee: Units,
    /// The close of a package by its owner.
    pub close_fee: Units,
    /// A batch, whatever it holds.
    pub batch_fee: Units,
    /// Each record of a batch; at most 1/200 of a transfer.
    pub record_fee: Units,
    /// Registration of a candidate for a seat.
    pub register_candidate_fee: Units,
    /// Anything else about stake: votes, what a candidate states, rewards, evidence.
    pub stake_fee: Units,
    /// How long listed gateways may deliver last records of terms that end.
    #[serde(with = "qlink_types::text")]
    pub closing_ms: u64,
    /// Seats, stakes and rewards.
    pub stake: StakeParams,
}

struct_codec!(Params {
    transfer_fee,
    register_party_fee,
    rotate_key_fee,
    register_content_fee,
    buy_package_fee,
    top_up_fee,
    close_fee,
    batch_fee,
    record_fee,
    register_candidate_fee,
    stake_fee,
    closing_ms,
    stake,
});

impl Default for Params {
    /// Chosen so that a transfer costs 10^-5 QLC and a record the least share of it allowed.
    fn default() -> Self {
        Self {
            transfer_fee: Units::new(1_000),
            register_party_fee: Units::new(100_000),
            rotate_key_fee: Units::new(1_000),
            register_content_fee: Units::new(10_000),
            buy_package_fee: Units::new(10_000),
            top_up_fee: Units::new(10_000),
            close_fee: Units::new(1_000),
            batch_fee: Units::new(500),
            record_fee: Units::new(5),
            register_candidate_fee: Units::new(100_000_000),
            stake_fee: Units::new(1_000),
            closing_ms: 10 * 60 * 1000,
            stake: StakeParams::default(),
        }
    }
}

impl Params {
    /// Fee of a batch with `records` records, or `None` above 64 bits.
    #[must_use]
    pub fn batch_fee_for(&self, records: usize) -> Option<Units> {
        let records = u64::try_from(records).ok()?;
        let per_record = self.record_fee.get().checked_mul(records)?;
        self.batch_fee.add(Units::new(per_record)).ok()
    }
}
