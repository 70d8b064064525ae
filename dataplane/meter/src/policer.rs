//! Gates and maximum bit rates.
//!
//! Each limited direction of a `QoS` rule is a bucket that packets fill and time drains, in
//! nanobits (10^-9 bit), so that a rate in bits per second and a time in nanoseconds multiply to an
//! exact integer. A packet conforms when it fits on top of what is in the bucket, or when the
//! bucket is empty: so a packet larger than the bucket passes too, but not two of them at once.
//!
//! Depth of a bucket: what the rate passes in 10 ms, at least two packets of 1500 bytes (chosen:
//! 10 ms is above the gap between two bursts of a busy worker, and a slow rate still passes a
//! full-sized packet behind an acknowledgement).
//!
//! Invariant: a packet takes from all of its buckets or from none; in any interval a bucket passes
//! at most rate x interval + depth bytes, plus the one packet that found it empty.

use std::collections::BTreeMap;

use qlink_pfcp::model::{BitRate, Gate, Qer, QerId, SessionModel};

use crate::direction::Direction;
use crate::reason::DropReason;
use crate::rules::QerList;

/// Highest enforced rate; a higher one counts as this (chosen: 10 ms of it fit 64 bits, and no
/// session of ours gets there).
pub const RATE_KBPS_MAX: u64 = 900_000_000;

/// Time whose traffic a bucket holds.
const DEPTH_NS: u64 = 10_000_000;

/// Least depth in bytes.
const DEPTH_BYTES_MIN: u64 = 3_000;

/// Nanobits of a byte.
const BYTE: u64 = 8_000_000_000;

/// One limited direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Bits per second, which are nanobits per nanosecond.
    rate: u64,
    /// Nanobits that it holds.
    depth: u64,
    /// Nanobits in it at `stamp_ns`.
    level: u64,
    stamp_ns: u64,
}

impl Bucket {
    fn new(kbps: u64) -> Self {
        let rate = kbps.min(RATE_KBPS_MAX).saturating_mul(1000);
        let depth = rate
            .saturating_mul(DEPTH_NS)
            .max(DEPTH_BYTES_MIN.saturating_mul(BYTE));
        Self {
            rate,
            depth,
            level: 0,
            stamp_ns: 0,
        }
    }

    /// A bucket of another rate that is as full as this one.
    fn with_rate(self, kbps: u64) -> Self {
        Self {
            level: self.level,
            stamp_ns: self.stamp_ns,
            ..Self::new(kbps)
        }
    }

    /// Takes out what time has drained. Exact: a product beyond 64 bits exceeds every level.
    #[inline]
    const fn drain(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.stamp_ns);
        self.level = self.level.saturating_sub(elapsed.saturating_mul(self.rate));
        if now_ns > self.stamp_ns {
            self.stamp_ns = now_ns;
        }
    }

    #[inline]
    const fn conforms(&self, nanobits: u64) -> bool {
        // A rate of zero passes nothing, not even the depth.
        self.rate > 0 && (self.level == 0 || self.level.saturating_add(nanobits) <= self.depth)
    }
}

/// No limit in this direction.
const NO_BUCKET: u16 = u16::MAX;

/// A rule: its gates and its buckets, uplink first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    gates: [Gate; 2],
    buckets: [u16; 2],
}

/// What names a bucket over a modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Rule(QerId),
    Correlation(u32),
}

/// Enforces the `QoS` rules of one session.
///
/// Source: TS 29.244 §5.4.3 and §7.5.2.5.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policer {
    /// In the order of ids.
    rules: Box<[Rule]>,
    buckets: Box<[Bucket]>,
    /// Owner of each pair of buckets.
    owners: Box<[Owner]>,
}

impl Policer {
    /// Empty buckets for the rules of `model`. Rules with the same correlation id share the buckets
    /// of the one with the lowest id that limits anything.
    #[must_use]
    pub fn new(model: &SessionModel) -> Self {
        Self::default().updated(model)
    }

    /// The policer after a modification: buckets that stay are as full as before, so that changing
    /// a session's rules grants nothing.
    #[must_use]
    pub fn updated(&self, model: &SessionModel) -> Self {
        let mut pairs: BTreeMap<Owner, (u16, BitRate)> = BTreeMap::new();
        let mut owners = Vec::new();
        for qer in model.qers.values() {
            let Some(mbr) = qer.mbr else {
                continue;
            };
            let next = u16::try_from(owners.len()).unwrap_or(NO_BUCKET);
            pairs.entry(owner(qer)).or_insert_with(|| {
                owners.push(owner(qer));
                (next, mbr)
            });
        }
        let mut buckets = Vec::with_capacity(owners.len().saturating_mul(2));
        for known in &owners {
            let Some((_, mbr)) = pairs.get(known) else {
                continue;
            };
            let before = self.owners.iter().position(|owner| owner == known);
            for (side, kbps) in [mbr.uplink_kbps, mbr.downlink_kbps].into_iter().enumerate() {
                let standing = before.and_then(|pair| {
                    self.buckets
                        .get(pair.saturating_mul(2).saturating_add(side))
                });
                buckets.push(standing.map_or_else(|| Bucket::new(kbps), |old| old.with_rate(kbps)));
            }
        }
        let rules = model.qers.values().map(|qer| {
            let pair = pairs
                .get(&owner(qer))
                .map(|(pair, _)| pair.saturating_mul(2));
            Rule {
                gates: [qer.uplink, qer.downlink],
                buckets: pair.map_or([NO_BUCKET; 2], |up| [up, up.saturating_add(1)]),
            }
        });
        Self {
            rules: rules.collect(),
            buckets: buckets.into(),
            owners: owners.into(),
        }
    }

    /// Whether a packet of `bytes` inner bytes may pass all of `qers` at the monotonic time
    /// `now_ns`; what it passes it has used.
    ///
    /// # Errors
    ///
    /// [`DropReason::GateClosed`] or [`DropReason::RateExceeded`]; nothing is used then.
    #[inline]
    pub fn judge(
        &mut self,
        qers: &QerList,
        direction: Direction,
        bytes: u64,
        now_ns: u64,
    ) -> Result<(), DropReason> {
        if qers.is_empty() {
            return Ok(());
        }
        let side = match direction {
            Direction::Uplink => 0,
            Direction::Downlink => 1,
        };
        let nanobits = bytes.saturating_mul(BYTE);
        for rule in qers.iter().filter_map(|index| self.rules.get(index)) {
            if rule.gates.get(side) == Some(&Gate::Closed) {
                return Err(DropReason::GateClosed);
            }
        }
        for number in 0..qers.len() {
            if let Some(bucket) = self.bucket(qers, number, side) {
                bucket.drain(now_ns);
                if !bucket.conforms(nanobits) {
                    return Err(DropReason::RateExceeded);
                }
            }
        }
        for number in 0..qers.len() {
            if let Some(bucket) = self.bucket(qers, number, side) {
                bucket.level = bucket.level.saturating_add(nanobits);
            }
        }
        Ok(())
    }

    /// The bucket of a rule in the list, unless an earlier rule in it has the same one.
    #[inline]
    fn bucket(&mut self, qers: &QerList, number: usize, side: usize) -> Option<&mut Bucket> {
        let of = |index: usize| self.rules.get(index)?.buckets.get(side).copied();
        let own = of(qers.iter().nth(number)?)?;
        if qers
            .iter()
            .take(number)
            .any(|earlier| of(earlier) == Some(own))
        {
            return None;
        }
        self.buckets.get_mut(usize::from(own))
    }

    /// Bytes of memory behind it.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.rules)
            .saturating_add(size_of_val(&*self.buckets))
            .saturating_add(size_of_val(&*self.owners))
    }
}

const fn owner(qer: &Qer) -> Owner {
    match qer.correlation {
        Some(correlation) => Owner::Correlation(correlation),
        None => Owner::Rule(qer.id),
    }
}

#[cfg(test)]
#[path = "policer_tests.rs"]
mod tests;
