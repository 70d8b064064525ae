//! A table of decoded rows: each row is read once per block, changed in memory any number of
//! times, and encoded once at the end.
//!
//! Every change is logged until [`Table::commit`], so that a refused transaction, or the refused
//! part of a batch, leaves no trace.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::chain::SupplyRow;
use crate::row::{Held, Row, decode_row, encode_row, listing_value};
use crate::state::{Changes, Space, StateError, StateView};

/// Rows per read of a scan.
const PAGE: usize = 4096;

/// A row's place in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(usize);

struct Slot<R: Row> {
    key: R::Key,
    value: Option<R>,
    stored: bool,
    before: Held,
    changed: bool,
}

struct Undo<R> {
    slot: usize,
    value: Option<R>,
    changed: bool,
}

/// Rows of one kind that a block has touched.
pub(crate) struct Table<R: Row> {
    index: BTreeMap<R::Key, usize>,
    slots: Vec<Slot<R>>,
    log: Vec<Undo<R>>,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self {
            index: BTreeMap::new(),
            slots: Vec::new(),
            log: Vec::new(),
        }
    }
}

impl<R: Row> Table<R> {
    /// Finds the row under `key`, reading it from `state` the first time.
    pub(crate) fn load(
        &mut self,
        state: &dyn StateView,
        key: &R::Key,
    ) -> Result<Handle, StateError> {
        if let Some(slot) = self.index.get(key) {
            return Ok(Handle(*slot));
        }
        let name = R::key(key);
        let value: Option<R> = match state.get(R::SPACE, &name)? {
            Some(value) => Some(decode_row(&name, &value)?),
            None => None,
        };
        let slot = self.slots.len();
        self.index.insert(*key, slot);
        self.slots.push(Slot {
            key: *key,
            stored: value.is_some(),
            before: value
                .as_ref()
                .map_or_else(Held::default, |row| row.held(key)),
            value,
            changed: false,
        });
        Ok(Handle(slot))
    }

    /// The row, if there is one.
    pub(crate) fn get(&self, handle: Handle) -> Option<&R> {
        self.slots.get(handle.0)?.value.as_ref()
    }

    /// Loads and copies the row under `key`.
    pub(crate) fn read(
        &mut self,
        state: &dyn StateView,
        key: &R::Key,
    ) -> Result<Option<R>, StateError> {
        let handle = self.load(state, key)?;
        Ok(self.get(handle).cloned())
    }

    /// Replaces the row.
    pub(crate) fn set(&mut self, handle: Handle, value: R) {
        self.replace(handle, Some(value));
    }

    /// Loads the slot of `key` and replaces its row.
    pub(crate) fn write(
        &mut self,
        state: &dyn StateView,
        key: &R::Key,
        value: R,
    ) -> Result<(), StateError> {
        let handle = self.load(state, key)?;
        self.set(handle, value);
        Ok(())
    }

    /// Removes the row.
    pub(crate) fn remove(&mut self, handle: Handle) {
        self.replace(handle, None);
    }

    fn replace(&mut self, handle: Handle, value: Option<R>) {
        if let Some(slot) = self.slots.get_mut(handle.0) {
            let old = std::mem::replace(&mut slot.value, value);
            self.log.push(Undo {
                slot: handle.0,
                value: old,
                changed: slot.changed,
            });
            slot.changed = true;
        }
    }

    /// A point to return to.
    pub(crate) fn mark(&self) -> usize {
        self.log.len()
    }

    /// Takes back every change since `mark`.
    pub(crate) fn rollback(&mut self, mark: usize) {
        while self.log.len() > mark {
            let Some(undo) = self.log.pop() else { return };
            if let Some(slot) = self.slots.get_mut(undo.slot) {
                slot.value = undo.value;
                slot.changed = undo.changed;
            }
        }
    }

    /// Makes every change so far final.
    pub(crate) fn commit(&mut self) {
        self.log.clear();
    }

    /// Visits all rows in `range`, whose storage keys are those beginning with `prefix`: stored
    /// rows as changed here, and rows that exist only here. The order is not stated.
    pub(crate) fn visit(
        &self,
        state: &dyn StateView,
        prefix: &[u8],
        range: RangeInclusive<R::Key>,
        parse: impl Fn(&[u8]) -> Result<R::Key, StateError>,
        mut visit: impl FnMut(&R::Key, &R) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        for (key, slot) in self.index.range(range) {
            if let Some(row) = self.get(Handle(*slot)) {
                visit(key, row)?;
            }
        }
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = state.scan(R::SPACE, prefix, PAGE, after.as_deref())?;
            for (name, value) in &rows {
                let key = parse(name)?;
                if !self.index.contains_key(&key) {
                    visit(&key, &decode_row(name, value)?)?;
                }
            }
            match rows.into_iter().next_back() {
                Some((name, _)) => after = Some(name),
                None => return Ok(()),
            }
        }
    }

    /// Adds every changed row to `changes`, and what the changes moved to `supply`; `None` when a
    /// line of the supply would leave its range.
    pub(crate) fn write_changes(
        &self,
        changes: &mut Changes,
        mut supply: SupplyRow,
    ) -> Option<SupplyRow> {
        for slot in self.slots.iter().filter(|slot| slot.changed) {
            let after = slot
                .value
                .as_ref()
                .map_or_else(Held::default, |row| row.held(&slot.key));
            supply = supply.moved(&slot.before, &after)?;
            if !slot.stored && slot.value.is_none() {
                continue;
            }
            if slot.stored != slot.value.is_some()
                && let Some(listing) = R::listing_key(&slot.key)
            {
                let listed = slot.value.as_ref().map(|_| listing_value());
                changes.insert((Space::Rows, listing), listed);
            }
            changes.insert(
                (R::SPACE, R::key(&slot.key)),
                slot.value.as_ref().map(encode_row),
            );
        }
        Some(supply)
    }
}
