//! All sessions of this gateway: open ones in memory, every change durable before it is told.
//!
//! ```text
//! Sessions column:
//!   's' session id -> session row
//!   'p' path key -> paid and proven bytes of closed sessions
//!   'd' path key -> status with which the ledger refused the viewer's record
//!   'a' acceptance hash -> the one session that it opened
//! ```
//!
//! Closing a session moves its bytes into the path rows in the same write, so no byte is in both or
//! in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use qlink_store::{Column, Entry, KvStore, StoreError, Sync, WriteBatch};
use qlink_types::codec::{Decode as _, DecodeError, Encode as _};
use qlink_types::ids::{Hash32, PackageId, SessionId, ViewerKey};
use qlink_types::outcome::Status;
use qlink_types::record::RatioKey;
use qlink_types::units::{Bytes, PackageEpoch};

use crate::session::Session;
use crate::tally::{PathKey, Paths};

const SESSION: u8 = b's';
const PATH: u8 = b'p';
const DEAD: u8 = b'd';
const ACCEPTANCE: u8 = b'a';

/// Rows read at a time while starting.
const PAGE: usize = 1024;

/// Why the registry could not do something durable.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store failed.
    #[error("sessions cannot be kept")]
    Store(#[from] StoreError),
    /// A row is damaged.
    #[error("a session row cannot be read")]
    Row(#[from] DecodeError),
    /// A closed session never opens again.
    #[error("session {0} is closed")]
    Closed(SessionId),
}

/// Range of subscriber addresses: `base` and the `count - 1` that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressPool {
    /// First address.
    pub base: Ipv4Addr,
    /// How many.
    pub count: u32,
}

/// The sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    store: Arc<dyn KvStore>,
    pool: AddressPool,
    open: BTreeMap<SessionId, Session>,
    addresses: BTreeSet<Ipv4Addr>,
    closed: Paths,
    proven: Paths,
    sent: Paths,
    dead: BTreeMap<PathKey, Status>,
    ended: BTreeMap<PackageId, PackageEpoch>,
}

impl Registry {
    /// Reads what was kept in `store`.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when a row cannot be read.
    pub(crate) fn open(store: Arc<dyn KvStore>, pool: AddressPool) -> Result<Self, RegistryError> {
        let mut registry = Self {
            store,
            pool,
            open: BTreeMap::new(),
            addresses: BTreeSet::new(),
            closed: Paths::new(),
            proven: Paths::new(),
            sent: Paths::new(),
            dead: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        for value in registry.rows(SESSION)? {
            let session = Session::from_bytes(&value.1)?;
            if !session.stage.has_ended() {
                registry.addresses.insert(session.ue.0);
                registry.open.insert(session.session, session);
            }
        }
        for (key, value) in registry.rows(PATH)? {
            let path = PathKey::from_bytes(key.get(1..).unwrap_or_default())?;
            let (paid, proven) = <(Bytes, Bytes)>::from_bytes(&value)?;
            registry.closed.insert(path, paid);
            registry.proven.insert(path, proven);
        }
        for (key, value) in registry.rows(DEAD)? {
            let path = PathKey::from_bytes(key.get(1..).unwrap_or_default())?;
            registry.dead.insert(path, Status::from_bytes(&value)?);
        }
        Ok(registry)
    }

    fn rows(&self, kind: u8) -> Result<Vec<Entry>, StoreError> {
        let mut rows: Vec<Entry> = Vec::new();
        loop {
            let after = rows.last().map(|(key, _)| key.clone());
            let page = self
                .store
                .scan(Column::Sessions, &[kind], after.as_deref(), PAGE)?;
            if page.is_empty() {
                return Ok(rows);
            }
            rows.extend(page);
        }
    }

    /// A session in any stage.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when a closed session's row cannot be read.
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<Session>, RegistryError> {
        if let Some(session) = self.open.get(id) {
            return Ok(Some(session.clone()));
        }
        match self.store.get(Column::Sessions, &session_key(id))? {
            Some(value) => Ok(Some(Session::from_bytes(&value)?)),
            None => Ok(None),
        }
    }

    /// Sessions in the order of their ids behind `after`, any stage.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when a row cannot be read.
    pub(crate) fn page(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, RegistryError> {
        let after = after.map(session_key);
        let rows = self
            .store
            .scan(Column::Sessions, &[SESSION], after.as_deref(), limit)?;
        rows.iter()
            .map(|(_, value)| {
                let stored = Session::from_bytes(value)?;
                // The row of an open session is as old as its last change; memory has its counters.
                Ok(self.open.get(&stored.session).cloned().unwrap_or(stored))
            })
            .collect()
    }

    /// Sessions that are not closed.
    pub(crate) fn open_sessions(&self) -> impl ExactSizeIterator<Item = &Session> {
        self.open.values()
    }

    /// What is used and reserved.
    #[must_use]
    pub(crate) const fn commitments(&self) -> Commitments<'_> {
        Commitments { registry: self }
    }

    /// Keeps a session that is not closed; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn keep(&mut self, session: Session) -> Result<(), RegistryError> {
        if session.stage.has_ended() {
            return Err(RegistryError::Closed(session.session));
        }
        self.begin(session, &[])
    }

    /// Changes a session that is not closed; false, and nothing happens, when there is none.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing has changed then.
    pub(crate) fn update_open(
        &mut self,
        id: &SessionId,
        change: impl FnOnce(&mut Session) -> Result<(), DecodeError>,
    ) -> Result<bool, RegistryError> {
        let Some(mut session) = self.open.get(id).cloned() else {
            return Ok(false);
        };
        change(&mut session)?;
        self.keep(session)?;
        Ok(true)
    }

    /// The session that an acceptance has opened, if any.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the row cannot be read.
    pub(crate) fn accepted(&self, acceptance: &Hash32) -> Result<Option<SessionId>, RegistryError> {
        match self
            .store
            .get(Column::Sessions, &acceptance_key(acceptance))?
        {
            Some(value) => Ok(Some(SessionId::from_bytes(&value)?)),
            None => Ok(None),
        }
    }

    /// Keeps a new session and the acceptances that it uses up, in one write.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn begin(
        &mut self,
        session: Session,
        acceptances: &[Hash32],
    ) -> Result<(), RegistryError> {
        let mut batch = WriteBatch::new();
        for hash in acceptances {
            batch.put(
                Column::Sessions,
                acceptance_key(hash),
                session.session.to_bytes(),
            );
        }
        batch.put(
            Column::Sessions,
            session_key(&session.session),
            session.to_bytes(),
        );
        self.store.write(batch, Sync::Durable)?;
        self.addresses.insert(session.ue.0);
        self.open.insert(session.session, session);
        Ok(())
    }

    /// Notes that terms have ended: no session is admitted under them any more.
    pub(crate) fn end(&mut self, package: PackageId, package_epoch: PackageEpoch) {
        let ended = self.ended.entry(package).or_default();
        *ended = (*ended).max(package_epoch);
    }

    /// Leaves a viewer's paths of some terms out of every further batch, because the ledger refused
    /// its record: one refused record must not hold up the others.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn refuse(&mut self, key: &RatioKey, status: Status) -> Result<(), RegistryError> {
        let paths: Vec<PathKey> = self
            .totals()
            .into_keys()
            .filter(|path| path.ratio(key.gateway) == *key)
            .collect();
        let mut batch = WriteBatch::new();
        for path in &paths {
            batch.put(Column::Sessions, row_key(DEAD, path), status.to_bytes());
        }
        self.store.write(batch, Sync::Durable)?;
        self.dead
            .extend(paths.into_iter().map(|path| (path, status)));
        Ok(())
    }

    /// Forgets a session that was never opened.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn forget(&mut self, id: &SessionId) -> Result<(), RegistryError> {
        let mut batch = WriteBatch::new();
        batch.delete(Column::Sessions, session_key(id));
        self.store.write(batch, Sync::Durable)?;
        if let Some(session) = self.open.remove(id) {
            self.addresses.remove(&session.ue.0);
        }
        Ok(())
    }

    /// Takes newly read counters of an open session into memory. Counters never fall: a reading
    /// from before a restart cannot undo a later one.
    pub(crate) fn observe(&mut self, id: &SessionId, usage: qlink_pfcp::SessionUsage) {
        if let Some(session) = self.open.get_mut(id) {
            let before = session.usage.classes.verified_unique;
            if usage.classes.verified_unique >= before {
                session.usage = usage;
            }
        }
    }

    /// Closes a session whose final counters stand in `session`; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Store`]; nothing has changed then.
    pub(crate) fn close(&mut self, session: &Session) -> Result<(), RegistryError> {
        let mut paid = Paths::new();
        let mut proven = Paths::new();
        session.add_paths(&mut paid);
        session.add_proven_paths(&mut proven);
        let mut batch = WriteBatch::new();
        batch.put(
            Column::Sessions,
            session_key(&session.session),
            session.to_bytes(),
        );
        for (path, bytes) in &mut proven {
            *bytes = sum(*bytes, self.proven.get(path));
            let own = paid.get(path).copied().unwrap_or_default();
            let total = sum(own, self.closed.get(path));
            paid.insert(*path, total);
            batch.put(
                Column::Sessions,
                row_key(PATH, path),
                (total, *bytes).to_bytes(),
            );
        }
        self.store.write(batch, Sync::Durable)?;
        self.closed.append(&mut paid);
        self.proven.append(&mut proven);
        self.open.remove(&session.session);
        self.addresses.remove(&session.ue.0);
        Ok(())
    }

    /// Cumulative bytes of every path, open and closed sessions together.
    #[must_use]
    pub(crate) fn totals(&self) -> Paths {
        let mut totals = self.closed.clone();
        for session in self.open.values() {
            session.add_paths(&mut totals);
        }
        totals.retain(|path, _| !self.dead.contains_key(path));
        totals
    }

    /// What final batches have stated. Empty after a restart: stating it again changes nothing.
    #[must_use]
    pub(crate) const fn sent(&self) -> &Paths {
        &self.sent
    }

    /// Takes over what a final batch has stated.
    pub(crate) fn mark_sent(&mut self, sent: Paths) {
        self.sent = sent;
    }
}

/// A view of the registry for admission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commitments<'a> {
    registry: &'a Registry,
}

impl Commitments<'_> {
    /// Bytes of a package's terms that sessions here have used or reserved.
    #[must_use]
    pub(crate) fn of_package(&self, package: &PackageId, package_epoch: PackageEpoch) -> Bytes {
        let closed = self.sum_of(&self.registry.proven, |path| {
            path.package == *package && path.package_epoch == package_epoch
        });
        self.registry.open.values().fold(closed, |sum, session| {
            Bytes::new(
                sum.get()
                    .saturating_add(session.committed(package, package_epoch).get()),
            )
        })
    }

    /// Bytes of a package that a viewer has used or reserved here, under all terms.
    #[must_use]
    pub(crate) fn of_viewer(&self, package: &PackageId, viewer: &ViewerKey) -> Bytes {
        let closed = self.sum_of(&self.registry.proven, |path| {
            path.package == *package && path.viewer == *viewer
        });
        let legs = self
            .registry
            .open
            .values()
            .flat_map(|session| &session.sponsor);
        legs.filter(|leg| leg.package == *package && leg.viewer == *viewer)
            .fold(closed, |sum, leg| {
                Bytes::new(sum.get().saturating_add(leg.limit.get()))
            })
    }

    /// Bytes of a package's terms that sessions here have used, reservations apart.
    #[must_use]
    pub(crate) fn used(&self, package: &PackageId, package_epoch: PackageEpoch) -> Bytes {
        self.sum_of(&self.registry.totals(), |path| {
            path.package == *package && path.package_epoch == package_epoch
        })
    }

    /// Bytes of a package's terms that final batches of ours have stated.
    #[must_use]
    pub(crate) fn settled(&self, package: &PackageId, package_epoch: PackageEpoch) -> Bytes {
        self.sum_of(&self.registry.sent, |path| {
            path.package == *package && path.package_epoch == package_epoch
        })
    }

    fn sum_of(&self, paths: &Paths, wanted: impl Fn(&PathKey) -> bool) -> Bytes {
        let rows = paths.iter().filter(|(path, _)| wanted(path));
        rows.fold(Bytes::ZERO, |sum, (_, bytes)| {
            Bytes::new(sum.get().saturating_add(bytes.get()))
        })
    }

    /// Whether terms have ended here already, whatever the caller has read on the chain.
    #[must_use]
    pub(crate) fn has_ended(&self, package: &PackageId, package_epoch: PackageEpoch) -> bool {
        self.registry
            .ended
            .get(package)
            .is_some_and(|ended| package_epoch <= *ended)
    }

    /// A subscriber address that no open session has.
    ///
    /// # Errors
    ///
    /// The pool's size when every address is in use.
    pub(crate) fn free_address(&self) -> Result<Ipv4Addr, u64> {
        let pool = self.registry.pool;
        let base = u32::from(pool.base);
        (0..pool.count)
            .filter_map(|offset| base.checked_add(offset))
            .map(Ipv4Addr::from)
            .find(|address| !self.registry.addresses.contains(address))
            .ok_or_else(|| u64::from(pool.count))
    }
}

fn session_key(id: &SessionId) -> Vec<u8> {
    let mut key = vec![SESSION];
    id.encode(&mut key);
    key
}

fn row_key(kind: u8, path: &PathKey) -> Vec<u8> {
    let mut key = vec![kind];
    path.encode(&mut key);
    key
}

fn acceptance_key(hash: &Hash32) -> Vec<u8> {
    let mut key = vec![ACCEPTANCE];
    hash.encode(&mut key);
    key
}

fn sum(bytes: Bytes, more: Option<&Bytes>) -> Bytes {
    Bytes::new(
        bytes
            .get()
            .saturating_add(more.copied().unwrap_or_default().get()),
    )
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
