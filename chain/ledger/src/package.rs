//! Packages: terms, state, and totals per package_epoch and overall.

use std::sync::Arc;

use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader};
use qlink_types::ids::{AccountId, GatewayId, Hash32, PackageId, ViewerKey};
use qlink_types::outcome::{ClosingReason, Share};
use qlink_types::package::{CarriageShares, PackageState, PackageTerms};
use qlink_types::rating::{RatingError, Ratio};
use qlink_types::struct_codec;
use qlink_types::units::{ArithmeticError, Bytes, PackageEpoch, TimeMs, Units};
use serde::{Deserialize, Serialize};

use crate::row::{Held, Row, join};
use crate::state::Space;

/// The terms as bought; they never change. What a top-up changes stands in [`Package`].
///
/// Shared, because an audience of 4,096 keys is copied for every batch otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TermsRow(pub(crate) Arc<PackageTerms>);

impl Encode for TermsRow {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for TermsRow {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        PackageTerms::decode(reader).map(|terms| Self(Arc::new(terms)))
    }
}

impl Row for TermsRow {
    type Key = PackageId;
    const SPACE: Space = Space::Tree;

    fn key(key: &PackageId) -> Vec<u8> {
        join(b't', &[key.as_bytes()])
    }
}

/// One package_epoch: what it offers and what has moved under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EpochTotals {
    /// B: volume.
    pub bytes: Bytes,
    /// Q: reward.
    pub reward: Units,
    /// C: carriage.
    pub carriage: CarriageShares,
    /// X: bytes used by all viewers.
    pub used: Bytes,
    /// Reward units earned by viewers, dust included.
    pub reward_paid: Units,
    /// Reward units earned by nobody's key, dust included.
    pub unclaimed: Units,
    /// Reward units handed out by largest remainder when the terms ended.
    pub dust: Units,
    /// Carriage units paid, dust included.
    pub carriage_paid: CarriageShares,
    /// Operators seen on paths.
    #[serde(with = "qlink_types::text")]
    pub operators: u32,
    /// BaseStations seen on paths.
    #[serde(with = "qlink_types::text")]
    pub basestations: u32,
}

struct_codec!(EpochTotals {
    bytes,
    reward,
    carriage,
    used,
    reward_paid,
    unclaimed,
    dust,
    carriage_paid,
    operators,
    basestations,
});

impl Row for EpochTotals {
    type Key = (PackageId, PackageEpoch);
    const SPACE: Space = Space::Tree;

    fn key((package, epoch): &Self::Key) -> Vec<u8> {
        join(b'e', &[package.as_bytes(), &epoch.get().to_be_bytes()])
    }
}

impl EpochTotals {
    /// The ratio by which a share pays.
    pub(crate) fn ratio(&self, share: Share) -> Result<Ratio, RatingError> {
        let total = match share {
            Share::Reward => self.reward,
            Share::Operator => self.carriage.operator,
            Share::BaseStation => self.carriage.basestation,
            Share::Gateway => self.carriage.gateway,
        };
        Ratio::new(total, self.bytes)
    }

    /// Reward units that have left the escrow.
    #[must_use]
    pub const fn moved(&self) -> Units {
        Units::new(self.reward_paid.get().saturating_add(self.unclaimed.get()))
    }
}

/// All package_epochs of a package together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackageTotals {
    /// Q + C of the purchase and of every top-up.
    pub deposit: Units,
    /// Units not yet moved.
    pub escrow: Units,
    /// Bytes used.
    pub used: Bytes,
    /// Reward units earned by viewers, dust included.
    pub reward_paid: Units,
    /// Of those, units moved to accounts by claims.
    pub claimed: Units,
    /// Reward units earned by nobody's key.
    pub unclaimed: Units,
    /// Of those, units returned to the owner at close: none or all.
    pub unclaimed_returned: Units,
    /// Reward units handed out by largest remainder.
    pub dust: Units,
    /// Carriage units paid, dust included.
    pub carriage_paid: CarriageShares,
    /// Units returned to the owner at close, `unclaimed_returned` included.
    pub refund: Units,
}

struct_codec!(PackageTotals {
    deposit,
    escrow,
    used,
    reward_paid,
    claimed,
    unclaimed,
    unclaimed_returned,
    dust,
    carriage_paid,
    refund,
});

impl PackageTotals {
    /// Units that viewers can claim now.
    #[must_use]
    pub const fn claimable(&self) -> Units {
        self.reward_paid.saturating_sub(self.claimed)
    }

    /// Units on the `unclaimed` line now: those that have not been returned.
    #[must_use]
    pub const fn unclaimed_held(&self) -> Units {
        self.unclaimed.saturating_sub(self.unclaimed_returned)
    }

    /// Law 5: `escrow + paid + unclaimed + refund = deposit`.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let sum = [
            self.escrow,
            self.reward_paid,
            self.carriage_paid.operator,
            self.carriage_paid.basestation,
            self.carriage_paid.gateway,
            self.unclaimed_held(),
            self.refund,
        ]
        .iter()
        .fold(0, |sum: u128, line| {
            sum.saturating_add(u128::from(line.get()))
        });
        sum == u128::from(self.deposit.get())
    }
}

/// Terms that end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Why.
    pub reason: ClosingReason,
    /// First ledger time at which records are no longer taken.
    pub deadline: TimeMs,
    /// Listed gateways that have no further record, in ascending order.
    pub finals: List<GatewayId, 64>,
}

struct_codec!(Closing {
    reason,
    deadline,
    finals
});

/// What a top-up adds once the running terms are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTopUp {
    /// Added volume.
    pub bytes: Bytes,
    /// Added reward.
    pub reward: Units,
    /// Added carriage.
    pub carriage: CarriageShares,
    /// New end of validity.
    pub valid_until: TimeMs,
}

struct_codec!(PendingTopUp {
    bytes,
    reward,
    carriage,
    valid_until
});

/// The last batch of a gateway that touched a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRoot {
    /// Whose.
    pub gateway: GatewayId,
    /// Its number.
    #[serde(with = "qlink_types::text")]
    pub sequence: u64,
    /// Its Merkle root.
    pub root: Hash32,
}

struct_codec!(BatchRoot {
    gateway,
    sequence,
    root
});

/// A package as the chain holds it, without its terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Who bought it and is refunded.
    pub owner: AccountId,
    /// Where it is in its life.
    pub state: PackageState,
    /// The terms that run, from 0.
    pub package_epoch: PackageEpoch,
    /// First ledger time at which bytes no longer count.
    pub valid_until: TimeMs,
    /// Most bytes of one viewer under all terms.
    pub viewer_cap: Bytes,
    /// The running package_epoch.
    pub current: EpochTotals,
    /// All package_epochs.
    pub totals: PackageTotals,
    /// Set while `RollingOver` or `Closing`.
    pub closing: Option<Closing>,
    /// Set while `RollingOver`.
    pub top_up: Option<PendingTopUp>,
    /// Last batch per gateway, in ascending order of gateways.
    pub roots: List<BatchRoot, 64>,
}

struct_codec!(Package {
    owner,
    state,
    package_epoch,
    valid_until,
    viewer_cap,
    current,
    totals,
    closing,
    top_up,
    roots,
});

impl Row for Package {
    type Key = PackageId;
    const SPACE: Space = Space::Tree;

    fn key(key: &PackageId) -> Vec<u8> {
        join(b'p', &[key.as_bytes()])
    }

    fn listing_key(key: &PackageId) -> Option<Vec<u8>> {
        Some(join(b'P', &[key.as_bytes()]))
    }

    fn held(&self, _key: &PackageId) -> Held {
        Held {
            escrow: self.totals.escrow,
            claimable: self.totals.claimable(),
            unclaimed: self.totals.unclaimed_held(),
            ..Held::default()
        }
    }
}

impl Package {
    /// Moves `units` of the reward to the viewers' line.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError`] when the escrow holds less, which a correct ledger never asks for.
    pub(crate) fn pay_reward(
        &mut self,
        units: Units,
        to: RewardLine,
    ) -> Result<(), ArithmeticError> {
        self.totals.escrow = self.totals.escrow.sub(units)?;
        let (epoch_line, total_line) = match to {
            RewardLine::Viewers => (&mut self.current.reward_paid, &mut self.totals.reward_paid),
            RewardLine::Unclaimed => (&mut self.current.unclaimed, &mut self.totals.unclaimed),
        };
        *epoch_line = epoch_line.add(units)?;
        *total_line = total_line.add(units)?;
        Ok(())
    }

    /// Moves `units` of a carriage share out of the escrow.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError`] when the escrow holds less, which a correct ledger never asks for.
    pub(crate) fn pay_carriage(
        &mut self,
        share: Share,
        units: Units,
    ) -> Result<(), ArithmeticError> {
        self.totals.escrow = self.totals.escrow.sub(units)?;
        for paid in [
            &mut self.current.carriage_paid,
            &mut self.totals.carriage_paid,
        ] {
            let line = match share {
                Share::Operator => &mut paid.operator,
                Share::BaseStation => &mut paid.basestation,
                Share::Gateway | Share::Reward => &mut paid.gateway,
            };
            *line = line.add(units)?;
        }
        Ok(())
    }
}

/// Where reward units go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RewardLine {
    /// To viewers, who claim them.
    Viewers,
    /// To nobody's key.
    Unclaimed,
}

impl RewardLine {
    /// The line of `viewer`.
    pub(crate) fn of(viewer: &ViewerKey) -> Self {
        if viewer.is_zero() {
            Self::Unclaimed
        } else {
            Self::Viewers
        }
    }
}
