//! Packages as the console shows them: the ratio equation, money, viewers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use qlink_client::http::HttpError;
use qlink_client::rpc::{PackageAnswer, ViewerAnswer};
use qlink_ledger::EpochTotals;
use qlink_types::ids::PackageId;
use qlink_types::package::{Audience, PackageState, RepeatPolicy, Scope};
use qlink_types::units::Bytes;

use super::figures::{bytes, counted, grouped, percent, qlc, short, time};
use crate::service::Service;

/// Viewers read at a time while they are counted.
const PAGE: usize = 100;

/// Most pages read to count viewers; beyond, the count is a lower bound and says so.
const PAGES_MAX: usize = 10;

/// Packages whose viewer count is remembered.
const COUNTS_MAX: usize = 1024;

/// A line of a list of terms and values.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: String,
}

/// The ratio equation: used = moved : reward x volume.
#[derive(Debug, Clone)]
pub(super) struct Equation {
    /// `7 viewers`.
    pub viewers: String,
    /// Bytes used.
    pub used: String,
    /// `=`, or `≈` while rounding holds back less than a unit per viewer.
    pub relation: &'static str,
    /// Reward moved, in QLC.
    pub moved: String,
    /// Reward put in, in QLC.
    pub reward: String,
    /// Bytes bought.
    pub volume: String,
    /// Whether the package pays a reward at all.
    pub rewards: bool,
}

/// A package on the overview and at the head of its own page.
#[derive(Debug, Clone)]
pub(super) struct PackageCard {
    /// Its id.
    pub id: String,
    /// Its id, shortened.
    pub short: String,
    /// `open`, `rolling over`, `closing`, `closed`.
    pub state: &'static str,
    /// Class of the state's mark.
    pub mark: &'static str,
    /// What it pays for.
    pub scope: String,
    /// The equation.
    pub equation: Equation,
    /// Bytes used, for the bar.
    pub used: u64,
    /// Bytes bought, for the bar.
    pub volume: u64,
    /// The bar in words.
    pub percent: String,
    /// Further figures.
    pub lines: Vec<Line>,
}

/// A viewer on a package's page.
#[derive(Debug, Clone)]
pub(super) struct ViewerRow {
    /// Its key.
    pub key: String,
    /// Its key, shortened; the `unclaimed` line has a name instead.
    pub short: String,
    /// Bytes under all terms.
    pub bytes: String,
    /// Reward earned.
    pub earned: String,
    /// Reward claimed.
    pub claimed: String,
}

/// Numbers of viewers, remembered for as long as a package's used bytes stay the same.
#[derive(Debug, Default)]
pub(super) struct ViewerCounts {
    counts: Mutex<BTreeMap<PackageId, (Bytes, String)>>,
}

impl ViewerCounts {
    /// `7 viewers`.
    async fn of(&self, service: &Service, package: &PackageAnswer) -> Result<String, HttpError> {
        let used = package.ledger.totals.used;
        let known = {
            let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.get(&package.package).cloned()
        };
        if let Some((_, text)) = known.filter(|(at, _)| *at == used) {
            return Ok(text);
        }
        let text = if used.is_zero() {
            counted(0, "viewer", "viewers")
        } else {
            count(service, &package.package).await?
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTS_MAX {
            counts.clear();
        }
        counts.insert(package.package, (used, text.clone()));
        Ok(text)
    }
}

async fn count(service: &Service, package: &PackageId) -> Result<String, HttpError> {
    let (mut sum, mut after) = (0_u64, None);
    for _ in 0..PAGES_MAX {
        let page = service
            .node
            .viewers(package, after.as_deref(), PAGE)
            .await?;
        let with_bytes = page.data.iter().filter(|row| !row.bytes.is_zero()).count();
        sum = sum.saturating_add(u64::try_from(with_bytes).unwrap_or(u64::MAX));
        if !page.has_more {
            return Ok(counted(sum, "viewer", "viewers"));
        }
        after = page.next;
    }
    Ok(format!("at least {}", counted(sum, "viewer", "viewers")))
}

/// A package's card.
///
/// # Errors
///
/// When its viewers cannot be counted.
pub(super) async fn card(
    service: &Arc<Service>,
    counts: &ViewerCounts,
    package: &PackageAnswer,
) -> Result<PackageCard, HttpError> {
    let viewers = counts.of(service, package).await?;
    let id = package.package.to_string();
    let (ledger, current) = (&package.ledger, &package.ledger.current);
    let (state, mark) = match ledger.state {
        PackageState::Open => ("open", "good"),
        PackageState::RollingOver => ("rolling over", "busy"),
        PackageState::Closing => ("closing", "busy"),
        PackageState::Closed => ("closed", "done"),
    };
    let mut lines = vec![
        Line {
            name: "Reserved by open sessions",
            value: format!("{} bytes", bytes(reserved(service, package))),
        },
        Line {
            name: "Refund",
            value: format!("{} QLC", qlc(ledger.totals.refund)),
        },
        Line {
            name: "Unclaimed",
            value: format!("{} QLC", qlc(ledger.totals.unclaimed_held())),
        },
        Line {
            name: "Valid until",
            value: time(ledger.valid_until),
        },
    ];
    if ledger.package_epoch.get() > 0 {
        lines.push(Line {
            name: "Terms",
            value: format!("package_epoch {}", ledger.package_epoch),
        });
    }
    Ok(PackageCard {
        short: short(&id),
        id,
        state,
        mark,
        scope: scope(&package.terms.scope),
        equation: equation(viewers, current),
        used: current.used.get(),
        volume: current.bytes.get(),
        percent: percent(current.used.get(), current.bytes.get()),
        lines,
    })
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Contents { contents } => {
            let count = u64::try_from(contents.len()).unwrap_or(u64::MAX);
            counted(count, "content", "contents")
        }
        Scope::Any => "any bytes: a personal data package".to_owned(),
    }
}

fn reserved(service: &Service, package: &PackageAnswer) -> Bytes {
    let registry = service.registry();
    let commitments = registry.commitments();
    let epoch = package.ledger.package_epoch;
    commitments
        .of_package(&package.package, epoch)
        .saturating_sub(commitments.settled(&package.package, epoch))
}

fn equation(viewers: String, terms: &EpochTotals) -> Equation {
    let wide = |number: u64| u128::from(number);
    let moved = terms.moved();
    // Both sides multiplied by the reward: no division, so no rounding.
    let left = wide(terms.used.get()).saturating_mul(wide(terms.reward.get()));
    let right = wide(moved.get()).saturating_mul(wide(terms.bytes.get()));
    Equation {
        viewers,
        used: bytes(terms.used),
        relation: if left == right { "=" } else { "≈" },
        moved: qlc(moved),
        reward: qlc(terms.reward),
        volume: bytes(terms.bytes),
        rewards: !terms.reward.is_zero(),
    }
}

/// Where a package's deposit is: the lines of law 5 in their order, which sum up to the deposit.
pub(super) fn money(package: &PackageAnswer) -> Vec<Line> {
    let totals = &package.ledger.totals;
    let carriage = &totals.carriage_paid;
    [
        ("Deposit", totals.deposit),
        ("Escrow", totals.escrow),
        ("Reward paid to viewers", totals.reward_paid),
        ("Unclaimed", totals.unclaimed_held()),
        ("Carriage: operator", carriage.operator),
        ("Carriage: BaseStations", carriage.basestation),
        ("Carriage: gateways", carriage.gateway),
        ("Refund", totals.refund),
    ]
    .into_iter()
    .map(|(name, units)| Line {
        name,
        value: qlc(units),
    })
    .collect()
}

/// What was agreed.
pub(super) fn terms(package: &PackageAnswer) -> Vec<Line> {
    let terms = &package.terms;
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let audience = match &terms.audience {
        Audience::Open => "everybody".to_owned(),
        Audience::Keys { keys } => {
            format!("{} listed", counted(count(keys.len()), "viewer", "viewers"))
        }
        Audience::InviteCodes { .. } => "holders of an invite code".to_owned(),
        Audience::Operators { .. } => "subscribers of listed operators".to_owned(),
        Audience::Regions { .. } => "subscribers in listed regions".to_owned(),
    };
    let repeat = match terms.repeat {
        RepeatPolicy::ChargeUser => "the session's payer",
        RepeatPolicy::Free => "nobody",
    };
    let lines = [
        ("Owner", package.ledger.owner.to_string()),
        ("Audience", audience),
        (
            "Most bytes per viewer",
            format!("{} bytes", bytes(package.ledger.viewer_cap)),
        ),
        ("Repeated views are paid by", repeat.to_owned()),
        ("Valid from", time(terms.valid_from)),
        (
            "Settled by",
            counted(count(terms.gateways.len()), "gateway", "gateways"),
        ),
        ("Read at block", grouped(package.as_of_height.get())),
    ];
    lines
        .into_iter()
        .map(|(name, value)| Line { name, value })
        .collect()
}

/// Contents that a package names.
pub(super) fn contents(package: &PackageAnswer) -> Vec<String> {
    match &package.terms.scope {
        Scope::Contents { contents } => contents.iter().map(ToString::to_string).collect(),
        Scope::Any => Vec::new(),
    }
}

/// A row of a package's viewers.
pub(super) fn viewer(row: &ViewerAnswer) -> ViewerRow {
    let key = row.viewer.to_string();
    ViewerRow {
        short: if row.viewer.is_zero() {
            "unclaimed (no viewer key)".to_owned()
        } else {
            short(&key)
        },
        key,
        bytes: bytes(row.bytes),
        earned: qlc(row.earned_units),
        claimed: qlc(row.claimed_units),
    }
}

#[cfg(test)]
mod tests {
    use qlink_types::units::Units;

    use super::*;

    fn terms(used: u64, paid: u64, unclaimed: u64) -> EpochTotals {
        EpochTotals {
            bytes: Bytes::new(100_000_000),
            reward: Units::new(100_000_000),
            used: Bytes::new(used),
            reward_paid: Units::new(paid),
            unclaimed: Units::new(unclaimed),
            ..EpochTotals::default()
        }
    }

    #[test]
    fn seven_views_of_ten_have_moved_seven_tenths() {
        let shown = equation(
            "7 viewers".to_owned(),
            &terms(70_000_000, 60_000_000, 10_000_000),
        );

        assert_eq!(shown.used, "70,000,000");
        assert_eq!(shown.relation, "=");
        assert_eq!(shown.moved, "0.70000000");
        assert_eq!(
            (shown.reward.as_str(), shown.volume.as_str()),
            ("1.00000000", "100,000,000")
        );
    }

    #[test]
    fn a_single_unit_less_is_not_shown_as_equal() {
        let shown = equation("7 viewers".to_owned(), &terms(70_000_000, 69_999_999, 0));

        assert_eq!(shown.relation, "≈");
    }
}
