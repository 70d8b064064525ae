//! All rules of one session, changed by whole modifications.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::endpoint::Endpoint;
use super::forwarding::{Bar, BarChanges, Far, FarChanges, OuterHeaderCreation};
use super::ids::{BarId, FTeid, FarId, PdrId, QerId, TrafficEndpointId, UrrId};
use super::packet::{Pdr, PdrChanges, UeAddress};
use super::quality::{Qer, QerChanges};
use super::traffic_endpoint::{CreatedTrafficEndpoint, TrafficEndpoint, TrafficEndpointChanges};
use super::usage_rule::{Urr, UrrChanges};

/// Source: TS 29.281 §4.4.2.3.
const GTPU_PORT: u16 = 2152;

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
    /// What several detection rules have in common.
    pub traffic_endpoints: BTreeMap<TrafficEndpointId, TrafficEndpoint>,
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
    pub remove_endpoints: Vec<TrafficEndpointId>,
    pub create_pdrs: Vec<Pdr>,
    pub create_fars: Vec<Far>,
    pub create_urrs: Vec<Urr>,
    pub create_qers: Vec<Qer>,
    pub create_bars: Vec<Bar>,
    pub create_endpoints: Vec<TrafficEndpoint>,
    pub update_pdrs: Vec<PdrChanges>,
    pub update_fars: Vec<FarChanges>,
    pub update_urrs: Vec<UrrChanges>,
    pub update_qers: Vec<QerChanges>,
    pub update_bars: Vec<BarChanges>,
    pub update_endpoints: Vec<TrafficEndpointChanges>,
}

/// What a change leaves to do besides the new rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Usage rules that ended: their last reports are due.
    pub ended_urrs: Vec<UrrId>,
    /// Usage rules that stand, but that no detection rule names any more: a report is due for
    /// each as if it had ended. Source: TS 29.244 §5.2.2.3.1.
    pub dissociated_urrs: Vec<UrrId>,
    /// Usage rules whose limits changed, with what changed.
    pub changed_urrs: Vec<UrrChanges>,
    /// Forwarding rules that want an end marker on the tunnel that they had.
    pub end_markers: Vec<Far>,
    /// Detection rules for which we chose an endpoint or an address, by id.
    pub created: Vec<CreatedPdr>,
    /// Traffic endpoints for which we did, by id.
    pub created_endpoints: Vec<CreatedTrafficEndpoint>,
    /// Endpoints that the session has now and had not: to be released if the change is not kept.
    pub gained: Vec<Endpoint>,
    /// Endpoints that the session had: to be released once the change is kept.
    pub lost: Vec<Endpoint>,
}

/// What we chose for a detection rule. Source: TS 29.244 §7.5.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CreatedPdr {
    /// The rule.
    pub id: PdrId,
    /// Its tunnel endpoint, when we chose it.
    pub local_fteid: Option<FTeid>,
    /// Its subscriber's address, when we chose a part of it; nothing is left to choose.
    pub ue: Option<UeAddress>,
}

impl SessionModel {
    /// Where forwarding rules send tunnel packets: to the registered port, each once.
    ///
    /// Source: TS 29.281 §4.4.2.3.
    #[must_use]
    pub fn tunnel_peers(&self) -> BTreeSet<SocketAddr> {
        let tunnels = self.fars.values().filter_map(|far| {
            match far.forwarding.as_ref().and_then(|to| to.outer)? {
                OuterHeaderCreation::Gtpu { v4, v6, .. } => Some((v4, v6)),
                OuterHeaderCreation::Udp { .. } => None,
            }
        });
        tunnels
            .flat_map(|(v4, v6)| [v4.map(IpAddr::from), v6.map(IpAddr::from)])
            .flatten()
            .map(|ip| SocketAddr::new(ip, GTPU_PORT))
            .collect()
    }

    /// The detection rules in the order in which packets meet them: by precedence, then by id.
    #[must_use]
    pub fn pdrs_in_order(&self) -> Vec<&Pdr> {
        let mut rules: Vec<&Pdr> = self.pdrs.values().collect();
        rules.sort_by_key(|pdr| (pdr.precedence, pdr.id));
        rules
    }

    /// The change that makes this model out of an empty one.
    #[must_use]
    pub fn to_change(&self) -> SessionChange {
        SessionChange {
            create_pdrs: self.pdrs.values().cloned().collect(),
            create_fars: self.fars.values().cloned().collect(),
            create_urrs: self.urrs.values().cloned().collect(),
            create_qers: self.qers.values().copied().collect(),
            create_bars: self.bars.values().copied().collect(),
            create_endpoints: self.traffic_endpoints.values().cloned().collect(),
            ..SessionChange::default()
        }
    }
}
