//! Traffic endpoints: what several detection rules have in common, stated once.
//!
//! Rules that name one get its parts filled in, so that whoever runs rules needs not know of it; the
//! name stays in the rule for later changes.
//!
//! Source: TS 29.244 §5.2.1.4, §7.5.2.7, §7.5.4.13 and §7.5.4.14.

use super::ids::{FTeid, TrafficEndpointId};
use super::packet::{Interface, LocalFTeid, NetworkInstance, UeAddress, UeRole};
use super::rejection::{FailedRule, Rejection};
use super::session::{SessionChange, SessionModel};
use crate::cause::Cause;
use crate::wire::IeType;

/// Most traffic endpoints of a session (chosen: two sides of each of some access networks).
pub const MAX_TRAFFIC_ENDPOINTS: usize = 16;

/// Where packets of several rules come in. Source: TS 29.244 §7.5.2.7.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrafficEndpoint {
    /// Its id in the session.
    pub id: TrafficEndpointId,
    /// Local tunnel endpoint.
    pub local_fteid: Option<LocalFTeid>,
    /// Network instance.
    pub network_instance: Option<NetworkInstance>,
    /// Subscriber's address.
    pub ue: Option<UeAddress>,
}

/// What a modification changes in a [`TrafficEndpoint`]; absent parts stay.
///
/// Source: TS 29.244 §7.5.4.13.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of TrafficEndpoint")]
pub struct TrafficEndpointChanges {
    pub id: TrafficEndpointId,
    pub local_fteid: Option<LocalFTeid>,
    pub network_instance: Option<NetworkInstance>,
    pub ue: Option<UeAddress>,
}

/// What we chose for a traffic endpoint. Source: TS 29.244 §7.5.3.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CreatedTrafficEndpoint {
    /// Which.
    pub id: TrafficEndpointId,
    /// Its tunnel endpoint, when we chose it.
    pub local_fteid: Option<FTeid>,
    /// Its subscriber's address, when we chose a part of it.
    pub ue: Option<UeAddress>,
}

/// A traffic endpoint that is not there, or is there already.
const WRONG: Rejection = Rejection::new(Cause::RuleInvalid).about(IeType::TRAFFIC_ENDPOINT_ID);

impl SessionModel {
    /// Takes the change of traffic endpoints in; rules of one that is removed go with it.
    pub(super) fn change_traffic(&mut self, change: &SessionChange) -> Result<(), Rejection> {
        for id in &change.remove_endpoints {
            self.traffic_endpoints.remove(id).ok_or(WRONG)?;
            self.pdrs.retain(|_, pdr| pdr.pdi.endpoint != Some(*id));
        }
        for wanted in &change.create_endpoints {
            let known = self.traffic_endpoints.insert(wanted.id, wanted.clone());
            if known.is_some() {
                return Err(WRONG);
            }
        }
        for wanted in &change.update_endpoints {
            let endpoint = self.traffic_endpoints.get_mut(&wanted.id).ok_or(WRONG)?;
            endpoint.local_fteid = wanted.local_fteid.or(endpoint.local_fteid);
            endpoint.ue = wanted.ue.or(endpoint.ue);
            if let Some(instance) = &wanted.network_instance {
                endpoint.network_instance = Some(instance.clone());
            }
        }
        if self.traffic_endpoints.len() > MAX_TRAFFIC_ENDPOINTS {
            return Err(Rejection::new(Cause::NoResources));
        }
        Ok(())
    }

    /// Whether every traffic endpoint that a rule names stands.
    pub(super) fn check_traffic(&self) -> Result<(), Rejection> {
        let stands = |id| self.traffic_endpoints.contains_key(&id);
        let mut pdrs = self.pdrs.values();
        match pdrs.find(|pdr| pdr.pdi.endpoint.is_some_and(|id| !stands(id))) {
            Some(pdr) => Err(WRONG.of(FailedRule::Pdr(pdr.id))),
            None => Ok(()),
        }
    }

    /// Gives rules what their traffic endpoints say.
    pub(super) fn fill_in(&mut self) {
        for pdr in self.pdrs.values_mut() {
            let pdi = &mut pdr.pdi;
            let endpoint = pdi.endpoint.and_then(|id| self.traffic_endpoints.get(&id));
            let Some(endpoint) = endpoint else {
                continue;
            };
            pdi.local_fteid = endpoint.local_fteid;
            // Which end of a packet it is follows from where the packet comes from.
            let role = match pdi.source {
                Interface::Access => UeRole::Source,
                _ => UeRole::Destination,
            };
            pdi.ue = endpoint.ue.map(|ue| UeAddress { role, ..ue });
            pdi.network_instance.clone_from(&endpoint.network_instance);
        }
    }
}

#[cfg(test)]
#[path = "traffic_endpoint_tests.rs"]
mod tests;
