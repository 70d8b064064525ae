//! Stop 6: cumulative bytes of sessions become ratio records and carriage records.
//!
//! The finest row is a *path*: one viewer of one package's terms over one BaseStation. Ratio records
//! sum paths over BaseStations, carriage records sum the same paths over viewers, so both sides of a
//! batch always have equal sums, also when a large change is cut into several batches.
//!
//! Pure: no clock, no store. Bytes become units here by [`Ratio::owed`] and nowhere else in this
//! component.

use std::collections::{BTreeMap, BTreeSet};

use qlink_types::batch::{Batch, Final, MAX_RECORDS};
use qlink_types::codec::{DecodeError, List};
use qlink_types::ids::{BaseStationId, GatewayId, Hash32, OperatorId, PackageId, ViewerKey};
use qlink_types::rating::{RatingError, Ratio};
use qlink_types::record::{CarriageKey, CarriageRecord, GradedBytes, RatioKey, RatioRecord};
use qlink_types::struct_codec;
use qlink_types::units::{ArithmeticError, Bytes, Incarnation, PackageEpoch};

/// One viewer of one package's terms over one BaseStation, since one counter start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathKey {
    /// The package that pays.
    pub package: PackageId,
    /// Its terms.
    pub package_epoch: PackageEpoch,
    /// Who is paid.
    pub viewer: ViewerKey,
    /// The gateway's counter start.
    pub incarnation: Incarnation,
    /// The operator that carried it.
    pub operator: OperatorId,
    /// The BaseStation that carried it.
    pub basestation: BaseStationId,
}

struct_codec!(PathKey {
    package,
    package_epoch,
    viewer,
    incarnation,
    operator,
    basestation
});

impl PathKey {
    pub(crate) fn ratio(&self, gateway: GatewayId) -> RatioKey {
        RatioKey {
            package: self.package,
            package_epoch: self.package_epoch,
            viewer: self.viewer,
            gateway,
            incarnation: self.incarnation,
        }
    }

    fn carriage(&self, gateway: GatewayId) -> CarriageKey {
        CarriageKey {
            package: self.package,
            package_epoch: self.package_epoch,
            gateway,
            incarnation: self.incarnation,
            operator: self.operator,
            basestation: self.basestation,
        }
    }
}

/// Cumulative bytes by path.
pub(crate) type Paths = BTreeMap<PathKey, Bytes>;

/// Why no batch could be made.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A path's terms are not known.
    #[error("terms {package_epoch} of {package} are not known here")]
    UnknownTerms {
        /// The package.
        package: PackageId,
        /// Its terms.
        package_epoch: PackageEpoch,
    },
    /// More bytes than the package holds: a reservation was overrun.
    #[error("bytes of {} under {} cannot be rated", .key.viewer, .key.package)]
    Rating {
        /// Whose bytes.
        key: Box<RatioKey>,
        /// Why.
        #[source]
        source: RatingError,
    },
    /// A sum exceeds 64 bits.
    #[error("a sum of bytes exceeds 64 bits")]
    Arithmetic(#[from] ArithmeticError),
    /// More records than a batch takes; a defect of this module.
    #[error("a batch grew too large")]
    TooLarge(#[from] DecodeError),
}

/// What rating needs to know of a package's terms.
pub(crate) type Ratios = BTreeMap<(PackageId, PackageEpoch), Ratio>;

/// Who signs a batch, and its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchHead {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its counter start.
    pub incarnation: Incarnation,
    /// The batch's number.
    pub sequence: u64,
}

/// Viewers per batch (chosen: with a few BaseStations each, both record lists stay in bounds).
const VIEWERS_PER_BATCH: usize = MAX_RECORDS / 4;

/// Finals per batch: what the format takes.
const FINALS_PER_BATCH: usize = 256;

/// Makes the next batch out of what has grown since `sent`, and brings `sent` up to it; `None` when
/// nothing has grown and no terms are final. `finals` are attached once nothing is left to send.
///
/// # Errors
///
/// Any [`BatchError`]; `sent` is unchanged then.
pub(crate) fn next_batch(
    head: BatchHead,
    totals: &Paths,
    sent: &mut Paths,
    ratios: &Ratios,
    finals: &BTreeSet<Final>,
) -> Result<Option<Batch>, BatchError> {
    let (chosen, complete) = choose_viewers(head.gateway, totals, sent);
    if chosen.is_empty() && finals.is_empty() {
        return Ok(None);
    }
    let mut after = sent.clone();
    for (path, bytes) in totals {
        if chosen.contains(&path.ratio(head.gateway)) {
            let entry = after.entry(*path).or_default();
            *entry = (*entry).max(*bytes);
        }
    }
    let finals = if complete {
        finals.iter().copied().take(FINALS_PER_BATCH).collect()
    } else {
        Vec::new()
    };
    let mut batch = Batch {
        gateway: head.gateway,
        incarnation: head.incarnation,
        sequence: head.sequence,
        ratio: ratio_records(head.gateway, &chosen, &after, ratios)?,
        carriage: carriage_records(head.gateway, &chosen, &after)?,
        finals: List::try_from(finals)?,
        root: Hash32::ZERO,
    };
    batch.root = batch.compute_root();
    *sent = after;
    Ok(Some(batch))
}

/// Ratio keys whose bytes have grown, up to a batch's worth, and whether that is all of them.
fn choose_viewers(gateway: GatewayId, totals: &Paths, sent: &Paths) -> (BTreeSet<RatioKey>, bool) {
    let mut chosen = BTreeSet::new();
    for (path, bytes) in totals {
        if sent.get(path).copied().unwrap_or_default() >= *bytes {
            continue;
        }
        let key = path.ratio(gateway);
        if chosen.len() >= VIEWERS_PER_BATCH && !chosen.contains(&key) {
            return (chosen, false);
        }
        chosen.insert(key);
    }
    (chosen, true)
}

fn ratio_records(
    gateway: GatewayId,
    chosen: &BTreeSet<RatioKey>,
    paths: &Paths,
    ratios: &Ratios,
) -> Result<List<RatioRecord, MAX_RECORDS>, BatchError> {
    let mut sums: BTreeMap<RatioKey, Bytes> = BTreeMap::new();
    for (path, bytes) in paths {
        let key = path.ratio(gateway);
        if chosen.contains(&key) {
            let sum = sums.entry(key).or_default();
            *sum = sum.add(*bytes)?;
        }
    }
    let mut records = Vec::with_capacity(sums.len());
    for (key, bytes) in sums {
        let ratio =
            ratios
                .get(&(key.package, key.package_epoch))
                .ok_or(BatchError::UnknownTerms {
                    package: key.package,
                    package_epoch: key.package_epoch,
                })?;
        let units = ratio.owed(bytes).map_err(|source| BatchError::Rating {
            key: Box::new(key),
            source,
        })?;
        records.push(RatioRecord {
            key,
            bytes: GradedBytes {
                verified: bytes,
                ..GradedBytes::default()
            },
            units,
            lease: Bytes::ZERO,
            evidence_root: Hash32::ZERO,
        });
    }
    Ok(List::try_from(records)?)
}

/// One record for every carriage path of terms that the chosen viewers touch.
fn carriage_records(
    gateway: GatewayId,
    chosen: &BTreeSet<RatioKey>,
    paths: &Paths,
) -> Result<List<CarriageRecord, MAX_RECORDS>, BatchError> {
    let touched: BTreeSet<(PackageId, PackageEpoch, Incarnation)> = chosen
        .iter()
        .map(|key| (key.package, key.package_epoch, key.incarnation))
        .collect();
    let mut sums: BTreeMap<CarriageKey, Bytes> = BTreeMap::new();
    for (path, bytes) in paths {
        if touched.contains(&(path.package, path.package_epoch, path.incarnation)) {
            let sum = sums.entry(path.carriage(gateway)).or_default();
            *sum = sum.add(*bytes)?;
        }
    }
    let records: Vec<CarriageRecord> = sums
        .into_iter()
        .map(|(key, bytes)| CarriageRecord { key, bytes })
        .collect();
    Ok(List::try_from(records)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qlink_types::units::Units;

    use super::*;

    const HEAD: BatchHead = BatchHead {
        gateway: GatewayId::new([9; 16]),
        incarnation: Incarnation::new(1),
        sequence: 1,
    };

    fn path(package: u8, viewer: u16, basestation: u8) -> PathKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&viewer.to_be_bytes());
        PathKey {
            package: PackageId::new([package; 16]),
            package_epoch: PackageEpoch::ZERO,
            viewer: ViewerKey::new(key),
            incarnation: Incarnation::new(1),
            operator: OperatorId::new([7; 16]),
            basestation: BaseStationId::new([basestation; 16]),
        }
    }

    fn ratios() -> Ratios {
        (0..4)
            .map(|package| {
                let terms = (PackageId::new([package; 16]), PackageEpoch::ZERO);
                (
                    terms,
                    Ratio::new(Units::new(1_000), Bytes::new(1_000_000_000)).unwrap(),
                )
            })
            .collect()
    }

    fn sum<'a>(bytes: impl Iterator<Item = &'a Bytes>) -> u64 {
        bytes.map(|bytes| bytes.get()).sum()
    }

    #[test]
    fn a_viewer_over_two_basestations_is_one_ratio_record_and_two_carriage_records() {
        let totals: Paths = [
            (path(1, 1, 1), Bytes::new(10)),
            (path(1, 1, 2), Bytes::new(5)),
        ]
        .into();
        let mut sent = Paths::new();

        let batch = next_batch(HEAD, &totals, &mut sent, &ratios(), &BTreeSet::new())
            .unwrap()
            .unwrap();

        assert_eq!(batch.ratio.len(), 1);
        assert_eq!(batch.ratio[0].bytes.verified, Bytes::new(15));
        assert_eq!(batch.carriage.len(), 2);
        assert_eq!(batch.root, batch.compute_root());
    }

    #[test]
    fn nothing_new_makes_no_batch_and_a_final_alone_makes_one() {
        let totals: Paths = [(path(1, 1, 1), Bytes::new(10))].into();
        let mut sent = totals.clone();
        let nothing = next_batch(HEAD, &totals, &mut sent, &ratios(), &BTreeSet::new()).unwrap();
        assert_eq!(nothing, None);

        let finals = [Final {
            package: PackageId::new([1; 16]),
            package_epoch: PackageEpoch::ZERO,
        }];
        let batch = next_batch(HEAD, &totals, &mut sent, &ratios(), &finals.into())
            .unwrap()
            .unwrap();

        assert_eq!(batch.finals.len(), 1);
        assert!(batch.ratio.is_empty());
    }

    #[test]
    fn unknown_terms_leave_what_was_sent_unchanged() {
        let totals: Paths = [(path(8, 1, 1), Bytes::new(10))].into();
        let mut sent = Paths::new();

        assert!(next_batch(HEAD, &totals, &mut sent, &ratios(), &BTreeSet::new()).is_err());
        assert!(sent.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_sides_of_every_batch_have_equal_sums(
            rows in proptest::collection::btree_map(
                (0u8..4, 0u16..3000, 0u8..3), 1u64..100_000, 1..5000,
            ),
        ) {
            let totals: Paths = rows
                .iter()
                .map(|((package, viewer, station), bytes)| {
                    (path(*package, *viewer, *station), Bytes::new(*bytes))
                })
                .collect();
            let mut sent = Paths::new();
            let mut stated: BTreeMap<RatioKey, Bytes> = BTreeMap::new();
            let mut carried: BTreeMap<CarriageKey, Bytes> = BTreeMap::new();
            while let Some(batch) =
                next_batch(HEAD, &totals, &mut sent, &ratios(), &BTreeSet::new()).unwrap()
            {
                for record in &batch.ratio {
                    stated.insert(record.key, record.bytes.verified);
                }
                for record in &batch.carriage {
                    carried.insert(record.key, record.bytes);
                }
                prop_assert_eq!(sum(stated.values()), sum(carried.values()));
            }
            prop_assert_eq!(sum(stated.values()), sum(totals.values()));
            prop_assert_eq!(&sent, &totals);
        }
    }
}
