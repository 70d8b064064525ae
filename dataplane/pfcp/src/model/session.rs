//! All rules of one session, changed by whole modifications.

use std::collections::BTreeMap;

use super::forwarding::{Bar, BarChanges, Far, FarChanges};
use super::ids::{BarId, FarId, PdrId, QerId, UrrId};
use super::packet::{Pdr, PdrChanges};
use super::quality::{Qer, QerChanges};
use super::usage_rule::{Urr, UrrChanges};

/// The rules that stand in a session, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionModel {
    /// Packet detection rules.
    pub pdrs: BTreeMap<PdrId, Pdr>,
    /// Forwarding action rules.
    pub fars: BTreeMap<FarId, Far>,
    /// Usage reporting rules.
    pub urrs: BTreeMap<UrrId, Urr>,
    /// `QoS` enforcement rules.
    pub qers: BTreeMap<QerId, Qer>,
    /// Buffering action rules.
    pub bars: BTreeMap<BarId, Bar>,
}

/// What one request does to a session's rules: removals, then creations, then updates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the rules by kind and verb")]
pub struct SessionChange {
    pub remove_pdrs: Vec<PdrId>,
    pub remove_fars: Vec<FarId>,
    pub remove_urrs: Vec<UrrId>,
    pub remove_qers: Vec<QerId>,
    pub remove_bars: Vec<BarId>,
    pub create_pdrs: Vec<Pdr>,
    pub create_fars: Vec<Far>,
    pub create_urrs: Vec<Urr>,
    pub create_qers: Vec<Qer>,
    pub create_bars: Vec<Bar>,
    pub update_pdrs: Vec<PdrChanges>,
    pub update_fars: Vec<FarChanges>,
    pub update_urrs: Vec<UrrChanges>,
    pub update_qers: Vec<QerChanges>,
    pub update_bars: Vec<BarChanges>,
}

/// What a change leaves to do besides the new rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Usage rules that ended: their last reports are due.
    pub ended_urrs: Vec<UrrId>,
    /// Usage rules whose limits changed, with what changed.
    pub changed_urrs: Vec<UrrChanges>,
    /// Forwarding rules that want an end marker on the tunnel that they had.
    pub end_markers: Vec<Far>,
}
