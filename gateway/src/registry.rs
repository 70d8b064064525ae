//! All sessions of this gateway: open ones in memory, every change durable before it is told.
//!
//! ```text
//! Sessions column:  's' session id -> session row         'p' path key -> bytes of closed sessions
//! ```
//!
//! Closing a session moves its bytes into the path rows in the same write, so no byte is in both or
//! in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use qlink_store::{Column, Entry, KvStore, StoreError, Sync, WriteBatch};
use qlink_types::codec::{Decode as _, DecodeError, Encode as _};
use qlink_types::ids::{PackageId, SessionId, ViewerKey};
use qlink_types::units::{Bytes, PackageEpoch};

use crate::session::{Session, Stage};
use crate::tally::{PathKey, Paths};

const SESSION: u8 = b's';
const PATH: u8 = b'p';

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
    sent: Paths,
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
            sent: Paths::new(),
        };
        for value in registry.rows(SESSION)? {
            let session = Session::from_bytes(&value.1)?;
            if session.stage != Stage::Closed {
                registry.addresses.insert(session.ue.0);
                registry.open.insert(session.session, session);
            }
        }
        for (key, value) in registry.rows(PATH)? {
            let path = PathKey::from_bytes(key.get(1..).unwrap_or_default())?;
            registry.closed.insert(path, Bytes::from_bytes(&value)?);
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
        let mut batch = WriteBatch::new();
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
        let mut added = Paths::new();
        session.add_paths(&mut added);
        let mut batch = WriteBatch::new();
        batch.put(
            Column::Sessions,
            session_key(&session.session),
            session.to_bytes(),
        );
        for (path, bytes) in &mut added {
            let before = self.closed.get(path).copied().unwrap_or_default();
            *bytes = Bytes::new(bytes.get().saturating_add(before.get()));
            batch.put(Column::Sessions, path_key(path), bytes.to_bytes());
        }
        self.store.write(batch, Sync::Durable)?;
        self.closed.append(&mut added);
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
        let closed = self.sum_of(&self.registry.closed, |path| {
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
        let closed = self.sum_of(&self.registry.closed, |path| {
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

fn path_key(path: &PathKey) -> Vec<u8> {
    let mut key = vec![PATH];
    path.encode(&mut key);
    key
}
