//! Whom this gateway's operator denies: every ruling durable before it has any effect.
//!
//! ```text
//! Sessions column:  'x' subject -> version | reason of the denial, if it is one | signed at
//! ```
//!
//! A denial is in effect once the data plane has forgotten the subject's keys and its sessions have
//! ended. Until then, and again after every start and every reconnection of the data plane, it is
//! `pending`: so a crash at any point leaves nobody in who should be out. A ruling that allows again
//! is kept while an older denial could still be repeated by somebody who saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qlink_store::{Column, KvStore, Sync, WriteBatch};
use qlink_types::codec::{Decode, DecodeError, Encode, Reader};
use qlink_types::ids::{BaseStationId, GatewayId, Hash32};
use qlink_types::ruling::{DenyReason, Subject, TunnelRuling};
use qlink_types::signature::SignatureError;
use qlink_types::units::TimeMs;

use crate::registry::RegistryError;
use crate::tunnels::CLOCKS_APART_MS;

/// First byte of a row's key.
const RULING: u8 = b'x';

/// Version of the row's format.
const ROW_VERSION: u8 = 1;

/// Most subjects (chosen: as many as BaseStations may ever enrol).
pub(crate) const SUBJECTS_MAX: usize = 1 << 16;

/// Rows read at a time while starting.
const PAGE: usize = 1024;

/// Why a ruling is not taken. The list is closed; [`Self::code`] is its stable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulingRefusal {
    /// The ruling is for another gateway.
    #[error("the ruling is for {found}, this gateway is {expected}")]
    WrongGateway {
        /// The gateway named in it.
        found: GatewayId,
        /// This gateway.
        expected: GatewayId,
    },
    /// The signature is not this gateway's key's.
    #[error("the ruling is not signed by this gateway's key: {0}")]
    BadSignature(SignatureError),
    /// The ruling's time is too far from ours.
    #[error("the ruling was signed at {signed_at} ms, now is {now} ms; set the clock, sign anew")]
    ClocksApart {
        /// Its time.
        signed_at: TimeMs,
        /// Now.
        now: TimeMs,
    },
    /// A later ruling stands.
    #[error("a ruling on {subject} signed at {newest} ms stands, this one is of {signed_at} ms")]
    Outdated {
        /// Whom it is about.
        subject: Subject,
        /// Its time.
        signed_at: TimeMs,
        /// The time of the one that stands.
        newest: TimeMs,
    },
    /// The list is full.
    #[error("{SUBJECTS_MAX} rulings stand; allow somebody again first")]
    Full,
}

impl RulingRefusal {
    /// The stable name in the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongGateway { .. } => "wrong_gateway",
            Self::BadSignature(_) => "bad_signature",
            Self::ClocksApart { .. } => "clocks_apart",
            Self::Outdated { .. } => "statement_outdated",
            Self::Full => "too_many_rulings",
        }
    }
}

/// A ruling that stands, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// Why not; `None`: it may come again.
    pub(crate) denied: Option<DenyReason>,
    /// When it was said.
    pub(crate) signed_at: TimeMs,
}

impl Encode for Ruling {
    fn encode(&self, out: &mut Vec<u8>) {
        (ROW_VERSION, self.denied).encode(out);
        self.signed_at.encode(out);
    }
}

impl Decode for Ruling {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            ROW_VERSION => Ok(Self {
                denied: Decode::decode(reader)?,
                signed_at: Decode::decode(reader)?,
            }),
            other => Err(DecodeError::UnknownTag {
                what: "ruling row",
                value: other.into(),
            }),
        }
    }
}

/// A denial that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Whom it is about.
    pub(crate) subject: Subject,
    /// Why.
    pub(crate) reason: DenyReason,
    /// Since when.
    pub(crate) since: TimeMs,
}

/// Why somebody is kept out, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{subject} is denied by this gateway's operator since {since} ms ({reason}); {next}")]
pub struct Denied {
    /// Who.
    pub subject: Subject,
    /// Why.
    pub reason: DenyReason,
    /// Since when.
    pub since: TimeMs,
    /// What to do next.
    next: &'static str,
}

impl Denied {
    /// The stable name in the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.subject {
            Subject::BaseStation { .. } => "basestation_denied",
            Subject::TunnelKey { .. } => "tunnel_key_denied",
        }
    }
}

impl From<Denial> for Denied {
    fn from(denial: Denial) -> Self {
        Self {
            subject: denial.subject,
            reason: denial.reason,
            since: denial.since,
            next: match denial.subject {
                Subject::BaseStation { .. } => "the operator undoes it with `qlink tunnel allow`",
                Subject::TunnelKey { .. } => "make a new one with `qlink key new`",
            },
        }
    }
}

/// All rulings.
#[derive(Debug)]
pub(crate) struct Rulings {
    store: Arc<dyn KvStore>,
    rows: BTreeMap<Subject, Ruling>,
    pending: BTreeSet<Subject>,
}

impl Rulings {
    /// Reads what was kept in `store`; every denial is pending again.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when a row cannot be read.
    pub(crate) fn open(store: Arc<dyn KvStore>) -> Result<Self, RegistryError> {
        let mut rows = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(Column::Sessions, &[RULING], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(last.clone());
            for (key, value) in page {
                let subject = Subject::from_bytes(key.get(1..).unwrap_or_default())?;
                rows.insert(subject, Ruling::from_bytes(&value)?);
            }
        }
        let mut rulings = Self {
            store,
            rows,
            pending: BTreeSet::new(),
        };
        rulings.renew();
        Ok(rulings)
    }

    /// Every denial is pending from now on: nobody knows what the data plane has kept.
    pub(crate) fn renew(&mut self) {
        let denied = self.rows.iter().filter(|(_, row)| row.denied.is_some());
        self.pending = denied.map(|(subject, _)| *subject).collect();
    }

    /// The denial of a subject.
    pub(crate) fn denial(&self, subject: Subject) -> Option<Denial> {
        let row = self.rows.get(&subject)?;
        row.denied.map(|reason| Denial {
            subject,
            reason,
            since: row.signed_at,
        })
    }

    /// The denial that keeps a BaseStation with this tunnel key out: by its id, or by the key.
    pub(crate) fn denial_of(&self, basestation: BaseStationId, key: Hash32) -> Option<Denial> {
        let by_id = self.denial(Subject::BaseStation { basestation });
        by_id.or_else(|| self.denial(Subject::TunnelKey { key }))
    }

    /// Every denial behind `after`, in the order of subjects.
    pub(crate) fn denials(&self, after: Option<Subject>) -> impl Iterator<Item = Denial> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let rows = self.rows.range((from, Unbounded));
        rows.filter_map(|(subject, _)| self.denial(*subject))
    }

    /// How many denials stand.
    pub(crate) fn len(&self) -> usize {
        self.denials(None).count()
    }

    /// Denials whose effect is not complete.
    pub(crate) const fn pending(&self) -> &BTreeSet<Subject> {
        &self.pending
    }

    /// A denial is in effect.
    pub(crate) fn settled(&mut self, subject: &Subject) {
        self.pending.remove(subject);
    }

    /// Keeps a ruling; durable when this returns, and a denial is pending. The same ruling again
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`RulingRefusal`] inside, [`RegistryError::Store`] outside; nothing has changed then.
    pub(crate) fn keep(
        &mut self,
        ruling: &TunnelRuling,
        now: TimeMs,
    ) -> Result<Result<(), RulingRefusal>, RegistryError> {
        let row = Ruling {
            denied: ruling.denied,
            signed_at: ruling.signed_at,
        };
        match self.rows.get(&ruling.subject) {
            Some(standing) if *standing == row => return Ok(Ok(())),
            Some(standing) if ruling.signed_at <= standing.signed_at => {
                return Ok(Err(RulingRefusal::Outdated {
                    subject: ruling.subject,
                    signed_at: ruling.signed_at,
                    newest: standing.signed_at,
                }));
            }
            Some(_) => {}
            None if self.rows.len() >= SUBJECTS_MAX => {
                self.forget_old(now)?;
                if self.rows.len() >= SUBJECTS_MAX {
                    return Ok(Err(RulingRefusal::Full));
                }
            }
            None => {}
        }
        let mut batch = WriteBatch::new();
        batch.put(Column::Sessions, row_key(&ruling.subject), row.to_bytes());
        self.store.write(batch, Sync::Durable)?;
        self.rows.insert(ruling.subject, row);
        if row.denied.is_some() {
            self.pending.insert(ruling.subject);
        } else {
            self.pending.remove(&ruling.subject);
        }
        Ok(Ok(()))
    }

    /// Forgets whom nobody's repeated ruling could deny again: those that are too old are refused.
    fn forget_old(&mut self, now: TimeMs) -> Result<(), RegistryError> {
        let old = |row: &Ruling| {
            let age = now.get().saturating_sub(row.signed_at.get());
            row.denied.is_none() && age > 2 * CLOCKS_APART_MS
        };
        let mut batch = WriteBatch::new();
        for (subject, _) in self.rows.iter().filter(|(_, row)| old(row)) {
            batch.delete(Column::Sessions, row_key(subject));
        }
        self.store.write(batch, Sync::Durable)?;
        self.rows.retain(|_, row| !old(row));
        Ok(())
    }
}

fn row_key(subject: &Subject) -> Vec<u8> {
    let mut key = vec![RULING];
    subject.encode(&mut key);
    key
}

/// Checks a ruling's time and gateway.
///
/// # Errors
///
/// The first [`RulingRefusal`] that applies.
pub(crate) fn check_ruling(
    ruling: &TunnelRuling,
    gateway: GatewayId,
    now: TimeMs,
) -> Result<(), RulingRefusal> {
    if ruling.gateway != gateway {
        return Err(RulingRefusal::WrongGateway {
            found: ruling.gateway,
            expected: gateway,
        });
    }
    if now.get().abs_diff(ruling.signed_at.get()) > CLOCKS_APART_MS {
        return Err(RulingRefusal::ClocksApart {
            signed_at: ruling.signed_at,
            now,
        });
    }
    Ok(())
}

#[cfg(test)]
#[path = "rulings_tests.rs"]
mod tests;
