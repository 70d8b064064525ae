//! What a segment adds, collected before it takes effect: a dropped segment changes nothing.

use crate::deltas::{ChargeReason, Deltas, add};
use crate::view::{Classes, View};

/// Distinct contents one segment can touch: as many as requests may be outstanding, the message
/// before them, and bytes of no content.
const PLACES: usize = crate::http::QUEUE_LIMIT + 2;

/// Class of bytes at arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    Pending,
    Retransmit,
    Allowed,
    Charged(ChargeReason),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    slot: Option<u16>,
    classes: Classes,
}

#[derive(Debug)]
pub(super) struct Tally<'a> {
    deltas: &'a mut Deltas,
    entries: [Entry; PLACES],
    used: usize,
}

impl<'a> Tally<'a> {
    pub(super) fn new(deltas: &'a mut Deltas) -> Self {
        let classes = Classes::default();
        Self {
            deltas,
            entries: [Entry {
                slot: None,
                classes,
            }; PLACES],
            // Element 0 is for bytes of no content.
            used: 1,
        }
    }

    /// Counts `bytes`, judged against the content in `slot` if against any.
    pub(super) fn count(&mut self, slot: Option<u16>, arrival: Arrival, bytes: u64) {
        let deltas = &mut *self.deltas;
        add(&mut deltas.wire_payload, bytes);
        match arrival {
            Arrival::Pending => add(&mut deltas.pending_in, bytes),
            Arrival::Retransmit => add(&mut deltas.retransmit, bytes),
            Arrival::Allowed => add(&mut deltas.overhead_allowed, bytes),
            Arrival::Charged(reason) => deltas.charge(reason, bytes),
        }
        let classes = self.entry(slot);
        add(&mut classes.wire_payload, bytes);
        match arrival {
            Arrival::Pending => add(&mut classes.pending, bytes),
            Arrival::Retransmit => add(&mut classes.retransmit, bytes),
            Arrival::Allowed => add(&mut classes.overhead_allowed, bytes),
            Arrival::Charged(_) => add(&mut classes.user_charged, bytes),
        }
    }

    fn entry(&mut self, slot: Option<u16>) -> &mut Classes {
        let known = self
            .entries
            .iter()
            .take(self.used)
            .position(|entry| entry.slot == slot);
        let index = match known {
            Some(index) => index,
            None if self.used < PLACES => {
                let index = self.used;
                self.used = index.saturating_add(1);
                index
            }
            None => 0,
        };
        let [first, rest @ ..] = &mut self.entries;
        let entry = match index.checked_sub(1).and_then(|i| rest.get_mut(i)) {
            Some(entry) => {
                entry.slot = slot;
                entry
            }
            None => first,
        };
        &mut entry.classes
    }

    /// Adds the collected classes to the views; what belongs to no content goes to `primary`, or
    /// stays in `unbound` while the flow has none.
    pub(super) fn apply(&self, views: &mut [View], primary: Option<u16>, unbound: &mut Classes) {
        for entry in self.entries.iter().take(self.used) {
            let slot = entry.slot.or(primary);
            let view = slot.and_then(|slot| views.get_mut(usize::from(slot)));
            match view {
                Some(view) => {
                    view.classes.absorb(&entry.classes);
                    if entry.slot.is_none() {
                        add(&mut view.pending_overhead, entry.classes.pending);
                    }
                }
                None => unbound.absorb(&entry.classes),
            }
        }
        let view = primary.and_then(|slot| views.get_mut(usize::from(slot)));
        if let Some(view) = view {
            view.classes.absorb(unbound);
            // What belongs to no content and waits is a head or framing.
            add(&mut view.pending_overhead, unbound.pending);
            *unbound = Classes::default();
        }
    }
}
