//! Which BaseStation has which key and address in the tunnel: every row durable before the data plane
//! hears of it.
//!
//! ```text
//! Sessions column:  't' BaseStation id -> version | key | address | signed at | keys to be removed
//! ```
//!
//! A key that was replaced stays in the row until the data plane has removed it, so a crash at any
//! point leaves nobody in who should be out: the repeated request, or the next start, goes on there.
//! It is removed once the BaseStation states its new key again, which it does when it uses it, or
//! [`OVERLAP_MS`] after it has stated it first: until then both come through, so nothing is lost.
//! A BaseStation keeps its address for good: sessions bind to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use qlink_store::{Column, KvStore, Sync, WriteBatch};
use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader};
use qlink_types::ids::{BaseStationId, GatewayId, Hash32};
use qlink_types::signature::SignatureError;
use qlink_types::tunnel::TunnelKey;
use qlink_types::units::TimeMs;
use serde::{Deserialize, Serialize};

use crate::registry::RegistryError;
use crate::rulings::Denied;

/// First byte of a row's key.
const TUNNEL: u8 = b't';

/// Version of the row's format.
const ROW_VERSION: u8 = 1;

/// Keys that may wait for their removal while the data plane does not answer.
const RETIRED_MAX: usize = 8;

/// How long a replaced key may come through beside the new one: no WireGuard session lives longer.
///
/// Source: WireGuard white paper §6.1 (`Reject-After-Time`).
pub(crate) const OVERLAP_MS: u64 = 180_000;

/// How far a statement's time may be from ours (chosen: as long as a session request is good).
pub(crate) const CLOCKS_APART_MS: u64 = 60_000;

/// Rows read at a time while starting.
const PAGE: usize = 1024;

/// The table `tunnel` of a configuration: BaseStations may enrol for the data plane's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelConfig {
    /// Where BaseStations reach the data plane's `tunnel.listen`, UDP. Example:
    /// `198.51.100.1:51820`.
    pub endpoint: std::net::SocketAddr,
    /// First tunnel address that is given to a BaseStation. It and those after it are in the network
    /// of the data plane's `tunnel.address`, and no others get them. Example: `10.99.0.2`.
    pub base: IpAddr,
    /// Number of these addresses, 1 to 65536: as many BaseStations may ever enrol. Example: `1024`.
    pub count: u32,
}

impl TunnelConfig {
    /// The address with this number; `None` beyond the last.
    fn address(&self, number: u32) -> Option<IpAddr> {
        if number >= self.count {
            return None;
        }
        Some(match self.base {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).checked_add(number)?).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).checked_add(number.into())?).into(),
        })
    }

    /// Whether an address is one that only enrolled BaseStations have.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let distance = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => u32::from(address)
                .checked_sub(u32::from(base))
                .map(u128::from),
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                u128::from(address).checked_sub(u128::from(base))
            }
            _ => None,
        };
        distance.is_some_and(|distance| distance < self.count.into())
    }
}

/// Why a BaseStation is not let into the tunnel. The list is closed; [`Self::code`] is its stable
/// name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefusal {
    /// This gateway has no table `tunnel`.
    #[error("this gateway offers no tunnel; its operator may add the table [tunnel]")]
    NotOffered,
    /// The path names another BaseStation than the statement.
    #[error("the path is of {path}, the statement of {statement}")]
    OtherPath {
        /// In the path.
        path: BaseStationId,
        /// In the statement.
        statement: BaseStationId,
    },
    /// The BaseStation is not registered.
    #[error("BaseStation {0} is not registered on the chain")]
    UnknownBaseStation(BaseStationId),
    /// The signature is not the registered device key's.
    #[error("the statement is not signed by the BaseStation's device key: {0}")]
    BadSignature(SignatureError),
    /// This gateway's operator denies the BaseStation or its tunnel key.
    #[error(transparent)]
    Denied(Denied),
    /// The statement is for another gateway.
    #[error("the statement is for {found}, this gateway is {expected}")]
    WrongGateway {
        /// The gateway named in it.
        found: GatewayId,
        /// This gateway.
        expected: GatewayId,
    },
    /// The statement's time is too far from ours.
    #[error(
        "the statement was signed at {signed_at} ms, now is {now} ms; set the clock, sign anew"
    )]
    ClocksApart {
        /// Its time.
        signed_at: TimeMs,
        /// Now.
        now: TimeMs,
    },
    /// A later statement stands.
    #[error("a statement signed at {newest} ms stands, this one was signed at {signed_at} ms")]
    Outdated {
        /// Its time.
        signed_at: TimeMs,
        /// The time of the one that stands.
        newest: TimeMs,
    },
    /// Another BaseStation has this key.
    #[error("another BaseStation has this tunnel key; make a new one with `qlink key new`")]
    KeyTaken,
    /// Every address is given.
    #[error("all {0} tunnel addresses are given; raise tunnel.count")]
    NoAddress(u32),
    /// Too many keys wait for their removal.
    #[error("{RETIRED_MAX} earlier keys wait until the data plane answers; try again")]
    TooManyKeys,
}

impl EnrolRefusal {
    /// The stable name in the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotOffered => "tunnel_not_offered",
            Self::OtherPath { .. } => "basestation_mismatch",
            Self::UnknownBaseStation(_) => "unknown_basestation",
            Self::BadSignature(_) => "bad_signature",
            Self::Denied(denied) => denied.code(),
            Self::WrongGateway { .. } => "wrong_gateway",
            Self::ClocksApart { .. } => "clocks_apart",
            Self::Outdated { .. } => "statement_outdated",
            Self::KeyTaken => "tunnel_key_taken",
            Self::NoAddress(_) => "no_tunnel_address",
            Self::TooManyKeys => "too_many_tunnel_keys",
        }
    }
}

/// A BaseStation in the tunnel, version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enrolled {
    /// Its X25519 public key.
    pub(crate) key: Hash32,
    /// Its address in the tunnel.
    pub(crate) address: IpAddr,
    /// When it said so.
    pub(crate) signed_at: TimeMs,
    /// Keys that the data plane may still know.
    pub(crate) retired: List<Hash32, RETIRED_MAX>,
}

impl Encode for Enrolled {
    fn encode(&self, out: &mut Vec<u8>) {
        ROW_VERSION.encode(out);
        self.key.encode(out);
        match self.address {
            IpAddr::V4(address) => (4_u8, address.octets()).encode(out),
            IpAddr::V6(address) => (6_u8, address.octets()).encode(out),
        }
        self.signed_at.encode(out);
        self.retired.encode(out);
    }
}

impl Decode for Enrolled {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let unknown = |what, value: u8| DecodeError::UnknownTag {
            what,
            value: value.into(),
        };
        match u8::decode(reader)? {
            ROW_VERSION => {}
            other => return Err(unknown("tunnel row", other)),
        }
        Ok(Self {
            key: Decode::decode(reader)?,
            address: match u8::decode(reader)? {
                4 => <[u8; 4]>::decode(reader)?.into(),
                6 => <[u8; 16]>::decode(reader)?.into(),
                other => return Err(unknown("address family", other)),
            },
            signed_at: Decode::decode(reader)?,
            retired: Decode::decode(reader)?,
        })
    }
}

impl Enrolled {
    /// The same once the data plane knows only its key.
    pub(crate) fn settled(&self) -> Self {
        Self {
            retired: List::default(),
            ..self.clone()
        }
    }

    /// The key that was replaced last, while it may still come through: `None` from
    /// [`OVERLAP_MS`] after the new one was stated on.
    pub(crate) fn overlapping(&self, now: TimeMs) -> Option<Hash32> {
        let age = now.get().saturating_sub(self.signed_at.get());
        self.retired.last().copied().filter(|_| age < OVERLAP_MS)
    }

    /// The same once the data plane knows only its key and the one that was replaced last.
    pub(crate) fn renewed(&self) -> Self {
        let last = self.retired.last().copied();
        Self {
            // One fits.
            retired: List::try_from(Vec::from_iter(last)).unwrap_or_default(),
            ..self.clone()
        }
    }
}

/// Checks a statement's time and gateway.
///
/// # Errors
///
/// The first [`EnrolRefusal`] that applies.
pub(crate) fn check_statement(
    statement: &TunnelKey,
    gateway: GatewayId,
    now: TimeMs,
) -> Result<(), EnrolRefusal> {
    if statement.gateway != gateway {
        return Err(EnrolRefusal::WrongGateway {
            found: statement.gateway,
            expected: gateway,
        });
    }
    if now.get().abs_diff(statement.signed_at.get()) > CLOCKS_APART_MS {
        return Err(EnrolRefusal::ClocksApart {
            signed_at: statement.signed_at,
            now,
        });
    }
    Ok(())
}

/// All enrolled BaseStations.
#[derive(Debug)]
pub(crate) struct Tunnels {
    store: Arc<dyn KvStore>,
    rows: BTreeMap<BaseStationId, Enrolled>,
    /// Those with keys to be removed.
    renewing: BTreeSet<BaseStationId>,
}

impl Tunnels {
    /// Reads what was kept in `store`.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when a row cannot be read.
    pub(crate) fn open(store: Arc<dyn KvStore>) -> Result<Self, RegistryError> {
        let mut rows: BTreeMap<BaseStationId, Enrolled> = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(Column::Sessions, &[TUNNEL], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                let renewing = rows.iter().filter(|(_, row)| !row.retired.is_empty());
                return Ok(Self {
                    renewing: renewing.map(|(id, _)| *id).collect(),
                    store,
                    rows,
                });
            };
            after = Some(last.clone());
            for (key, value) in page {
                let id = BaseStationId::from_bytes(key.get(1..).unwrap_or_default())?;
                rows.insert(id, Enrolled::from_bytes(&value)?);
            }
        }
    }

    /// The row of a BaseStation.
    pub(crate) fn of(&self, basestation: &BaseStationId) -> Option<&Enrolled> {
        self.rows.get(basestation)
    }

    /// Every BaseStation's row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&BaseStationId, &Enrolled)> {
        self.rows.iter()
    }

    /// Every row behind that of `after`, in the order of ids.
    pub(crate) fn rows_after(
        &self,
        after: Option<BaseStationId>,
    ) -> impl Iterator<Item = (&BaseStationId, &Enrolled)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.rows.range((from, Unbounded))
    }

    /// Rows whose replaced keys must go now.
    pub(crate) fn overdue(&self, now: TimeMs) -> Vec<(BaseStationId, Enrolled)> {
        let rows = self.renewing.iter().filter_map(|id| {
            let row = self.rows.get(id)?;
            row.overlapping(now).is_none().then(|| (*id, row.clone()))
        });
        rows.collect()
    }

    /// The row that a checked statement leads to. Nothing changes.
    ///
    /// # Errors
    ///
    /// The first [`EnrolRefusal`] that applies.
    pub(crate) fn judge(
        &self,
        config: &TunnelConfig,
        statement: &TunnelKey,
    ) -> Result<Enrolled, EnrolRefusal> {
        let standing = self.rows.get(&statement.basestation);
        if let Some(standing) = standing {
            let same = statement.key == standing.key && statement.signed_at == standing.signed_at;
            if statement.signed_at <= standing.signed_at && !same {
                return Err(EnrolRefusal::Outdated {
                    signed_at: statement.signed_at,
                    newest: standing.signed_at,
                });
            }
        }
        let has_key =
            |row: &Enrolled| row.key == statement.key || row.retired.contains(&statement.key);
        let mut others = self
            .rows
            .iter()
            .filter(|(id, _)| **id != statement.basestation);
        if others.any(|(_, row)| has_key(row)) {
            return Err(EnrolRefusal::KeyTaken);
        }
        let address = match standing {
            Some(standing) => standing.address,
            None => self.free_address(config)?,
        };
        let mut retired: Vec<Hash32> =
            standing.map_or_else(Vec::new, |standing| standing.retired.to_vec());
        retired.extend(standing.map(|standing| standing.key));
        retired.retain(|key| *key != statement.key);
        Ok(Enrolled {
            key: statement.key,
            address,
            signed_at: statement.signed_at,
            retired: List::try_from(retired).map_err(|_| EnrolRefusal::TooManyKeys)?,
        })
    }

    fn free_address(&self, config: &TunnelConfig) -> Result<IpAddr, EnrolRefusal> {
        let taken: BTreeSet<IpAddr> = self.rows.values().map(|row| row.address).collect();
        (0..config.count)
            .map_while(|number| config.address(number))
            .find(|address| !taken.contains(address))
            .ok_or(EnrolRefusal::NoAddress(config.count))
    }

    /// Keeps a row, or takes it away; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn keep(
        &mut self,
        basestation: BaseStationId,
        row: Option<Enrolled>,
    ) -> Result<(), RegistryError> {
        let mut key = vec![TUNNEL];
        basestation.encode(&mut key);
        let mut batch = WriteBatch::new();
        match &row {
            Some(row) => batch.put(Column::Sessions, key, row.to_bytes()),
            None => batch.delete(Column::Sessions, key),
        }
        self.store.write(batch, Sync::Durable)?;
        let renews = row.as_ref().is_some_and(|row| !row.retired.is_empty());
        if renews {
            self.renewing.insert(basestation);
        } else {
            self.renewing.remove(&basestation);
        }
        match row {
            Some(row) => self.rows.insert(basestation, row),
            None => self.rows.remove(&basestation),
        };
        Ok(())
    }
}

#[cfg(test)]
#[path = "tunnels_tests.rs"]
mod tests;
