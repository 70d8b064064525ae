//! Tunnel endpoints and subscriber addresses of a session, and who gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use qlink_types::ids::Teid;

use super::ids::{FTeid, Seid};
use super::networks::Networks;
use super::packet::{ApplicationId, Interface, LocalFTeid, NetworkInstance, UeAddress};
use super::rejection::{FailedRule, Rejection};
use super::session::{CreatedPdr, Resolution, SessionModel};
use super::traffic_endpoint::CreatedTrafficEndpoint;
use crate::cause::Cause;
use crate::wire::IeType;

/// What belongs to one session at a time. All tunnel endpoints of a node share one number space,
/// whatever their addresses are, and subscribers' addresses do so in all network instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A tunnel endpoint at our addresses.
    Tunnel(Teid),
    /// A subscriber's IPv4 address.
    UeV4(Ipv4Addr),
    /// A subscriber's IPv6 prefix with its length in bits.
    UeV6(Ipv6Addr, u8),
}

/// Which addresses a chosen tunnel endpoint has; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// Gives tunnel endpoints and subscribers' addresses out and takes them back.
///
/// `None` means that none is left, or none with those addresses.
pub trait Endpoints {
    /// An endpoint that no session has, at our addresses of `families` towards `interface`.
    fn allocate_teid(
        &mut self,
        session: Seid,
        interface: Interface,
        instance: Option<&NetworkInstance>,
        families: Families,
    ) -> Option<FTeid>;

    /// An IPv4 address that no session has.
    fn allocate_ue_v4(
        &mut self,
        session: Seid,
        instance: Option<&NetworkInstance>,
    ) -> Option<Ipv4Addr>;

    /// An IPv6 prefix and its length that no session has.
    fn allocate_ue_v6(
        &mut self,
        session: Seid,
        instance: Option<&NetworkInstance>,
    ) -> Option<(Ipv6Addr, u8)>;

    /// Takes a tunnel endpoint that the control plane chose; whether it is at our addresses and
    /// no other session's. Asked again for the same session it answers the same.
    fn claim_teid(&mut self, session: Seid, fteid: FTeid) -> Claim;

    /// Takes a subscriber's address that the control plane chose, as [`Self::claim_teid`].
    fn claim_ue(&mut self, session: Seid, endpoint: Endpoint) -> Claim;

    /// Gives back what was allocated to or claimed by the session.
    fn release(&mut self, session: Seid, endpoint: Endpoint);
}

/// Whether an endpoint belongs to a session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// It does.
    Granted,
    /// It is another session's, or not at our addresses.
    Denied,
    /// No further session has a place.
    Full,
}

/// What a change is judged by besides the rules themselves.
pub struct Environment<'a> {
    /// Our number of the session.
    pub session: Seid,
    /// Who gives endpoints.
    pub endpoints: &'a mut dyn Endpoints,
    /// Whether the filters of an application are known.
    pub knows_application: &'a dyn Fn(&ApplicationId) -> bool,
    /// Which network instances rules may name.
    pub networks: &'a Networks,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Resolution {
    /// Gives back what the session has no more: the change is kept.
    pub fn keep(&self, session: Seid, endpoints: &mut dyn Endpoints) {
        for endpoint in &self.lost {
            endpoints.release(session, *endpoint);
        }
    }

    /// Gives back what the change took: it is not kept.
    pub fn discard(&self, session: Seid, endpoints: &mut dyn Endpoints) {
        for endpoint in &self.gained {
            endpoints.release(session, *endpoint);
        }
    }
}

impl SessionModel {
    /// Everything that belongs to the session alone; what is still to be chosen is not in it.
    #[must_use]
    pub fn endpoints(&self) -> BTreeSet<Endpoint> {
        let stated = self.stated();
        stated.flat_map(|stated| stated.endpoints()).collect()
    }

    /// The F-TEIDs that stand.
    fn fteids(&self) -> BTreeSet<FTeid> {
        self.stated().filter_map(|stated| stated.fteid).collect()
    }

    /// What rules and traffic endpoints say of endpoints.
    fn stated(&self) -> impl Iterator<Item = Stated> {
        let pdrs = self.pdrs.values().map(|pdr| Stated {
            rule: Some(FailedRule::Pdr(pdr.id)),
            fteid: fixed(pdr.pdi.local_fteid),
            ue: pdr.pdi.ue,
        });
        let traffic = self.traffic_endpoints.values().map(|endpoint| Stated {
            rule: None,
            fteid: fixed(endpoint.local_fteid),
            ue: endpoint.ue,
        });
        pdrs.chain(traffic)
    }
}

/// The endpoints that one rule or traffic endpoint states.
struct Stated {
    /// Whose they are; a traffic endpoint is no rule.
    rule: Option<FailedRule>,
    fteid: Option<FTeid>,
    ue: Option<UeAddress>,
}

impl Stated {
    fn endpoints(&self) -> impl Iterator<Item = Endpoint> + use<> {
        let tunnel = self.fteid.map(|fteid| Endpoint::Tunnel(fteid.teid));
        tunnel.into_iter().chain(ue_endpoints(self.ue))
    }

    /// Whether the session has what it claims, or why it cannot.
    const fn granted(&self, claim: Claim, offending: IeType) -> Result<(), Rejection> {
        let rejection = match claim {
            Claim::Granted => return Ok(()),
            Claim::Denied => Rejection::new(Cause::RuleInvalid).about(offending),
            Claim::Full => Rejection::new(Cause::NoResources),
        };
        Err(match self.rule {
            Some(rule) => rejection.of(rule),
            None => rejection,
        })
    }
}

/// Chooses what `next` leaves to choose and takes what the control plane chose, or neither.
pub(super) fn resolve(
    standing: &SessionModel,
    next: &mut SessionModel,
    environment: &mut Environment<'_>,
    resolution: &mut Resolution,
) -> Result<(), Rejection> {
    let before = standing.endpoints();
    let mut choice = Choice {
        environment,
        taken: BTreeSet::new(),
    };
    let outcome = choice
        .claim_all(standing, next, &before)
        .and_then(|()| choice.choose_all(standing, next));
    match outcome {
        Ok(created) => {
            let after = next.endpoints();
            resolution.created = created.pdrs;
            resolution.created_endpoints = created.endpoints;
            resolution.gained = after.difference(&before).copied().collect();
            resolution.lost = before.difference(&after).copied().collect();
            Ok(())
        }
        Err(rejection) => {
            let session = choice.environment.session;
            for endpoint in choice.taken {
                choice.environment.endpoints.release(session, endpoint);
            }
            Err(rejection)
        }
    }
}

/// What one change has taken so far.
struct Choice<'a, 'b> {
    environment: &'a mut Environment<'b>,
    taken: BTreeSet<Endpoint>,
}

impl Choice<'_, '_> {
    /// Takes what the control plane chose, before anything is chosen here that could collide.
    fn claim_all(
        &mut self,
        standing: &SessionModel,
        next: &SessionModel,
        before: &BTreeSet<Endpoint>,
    ) -> Result<(), Rejection> {
        let session = self.environment.session;
        let known = standing.fteids();
        for stated in next.stated() {
            if let Some(fteid) = stated.fteid.filter(|fteid| !known.contains(fteid)) {
                let claim = self.environment.endpoints.claim_teid(session, fteid);
                stated.granted(claim, IeType::F_TEID)?;
                self.take(Endpoint::Tunnel(fteid.teid), before);
            }
            for endpoint in ue_endpoints(stated.ue) {
                if before.contains(&endpoint) {
                    continue;
                }
                let claim = self.environment.endpoints.claim_ue(session, endpoint);
                stated.granted(claim, IeType::UE_IP_ADDRESS)?;
                self.take(endpoint, before);
            }
        }
        Ok(())
    }

    fn take(&mut self, endpoint: Endpoint, before: &BTreeSet<Endpoint>) {
        if !before.contains(&endpoint) {
            self.taken.insert(endpoint);
        }
    }

    fn choose_all(
        &mut self,
        standing: &SessionModel,
        next: &mut SessionModel,
    ) -> Result<Created, Rejection> {
        let mut chosen = Chosen {
            shared: shared_families(next),
            numbered: BTreeMap::new(),
            addresses: standing_addresses(standing, next),
        };
        let mut created = Created::default();
        for endpoint in next.traffic_endpoints.values_mut() {
            // The side is that of the rules that name it, which may differ; we have one anyway.
            let place = (Interface::Access, endpoint.network_instance.as_ref());
            let local_fteid = &mut endpoint.local_fteid;
            let local_fteid = self.choose_teid(local_fteid, place, &mut chosen);
            let local_fteid = local_fteid?;
            let ue = self.choose_ue(&mut endpoint.ue, place.1, &mut chosen)?;
            if local_fteid.is_some() || ue.is_some() {
                created.endpoints.push(CreatedTrafficEndpoint {
                    id: endpoint.id,
                    local_fteid,
                    ue,
                });
            }
        }
        next.fill_in();
        for pdr in next.pdrs.values_mut() {
            let rule = FailedRule::Pdr(pdr.id);
            let pdi = &mut pdr.pdi;
            let place = (pdi.source, pdi.network_instance.as_ref());
            let local_fteid = self.choose_teid(&mut pdi.local_fteid, place, &mut chosen);
            let local_fteid = local_fteid.map_err(|none| none.of(rule))?;
            let ue = self.choose_ue(&mut pdi.ue, place.1, &mut chosen);
            let ue = ue.map_err(|none| none.of(rule))?;
            if local_fteid.is_some() || ue.is_some() {
                created.pdrs.push(CreatedPdr {
                    id: pdr.id,
                    local_fteid,
                    ue,
                });
            }
        }
        Ok(created)
    }

    fn choose_teid(
        &mut self,
        local: &mut Option<LocalFTeid>,
        (source, instance): (Interface, Option<&NetworkInstance>),
        chosen: &mut Chosen,
    ) -> Result<Option<FTeid>, Rejection> {
        let Some(LocalFTeid::Choose { v4, v6, choose_id }) = *local else {
            return Ok(None);
        };
        let known = choose_id.and_then(|number| chosen.numbered.get(&number).copied());
        let fteid = match known {
            Some(fteid) => fteid,
            None => {
                let own = Families { v4, v6 };
                let families = choose_id.and_then(|number| chosen.shared.get(&number).copied());
                let fteid = self
                    .environment
                    .endpoints
                    .allocate_teid(
                        self.environment.session,
                        source,
                        instance,
                        families.unwrap_or(own),
                    )
                    .ok_or(Rejection::new(Cause::NoResources))?;
                self.taken.insert(Endpoint::Tunnel(fteid.teid));
                fteid
            }
        };
        if let Some(number) = choose_id {
            chosen.numbered.insert(number, fteid);
        }
        *local = Some(LocalFTeid::Fixed(fteid));
        Ok(Some(fteid))
    }

    fn choose_ue(
        &mut self,
        ue: &mut Option<UeAddress>,
        instance: Option<&NetworkInstance>,
        Chosen { addresses, .. }: &mut Chosen,
    ) -> Result<Option<UeAddress>, Rejection> {
        let session = self.environment.session;
        let exhausted = Rejection::new(Cause::UeAddressesExhausted);
        let Some(ue) = ue.as_mut().filter(|ue| ue.choose_v4 || ue.choose_v6) else {
            return Ok(None);
        };
        if std::mem::take(&mut ue.choose_v4) {
            let address = match addresses.v4 {
                Some(address) => address,
                None => {
                    let endpoints = &mut *self.environment.endpoints;
                    let address = endpoints
                        .allocate_ue_v4(session, instance)
                        .ok_or(exhausted)?;
                    self.taken.insert(Endpoint::UeV4(address));
                    address
                }
            };
            addresses.v4 = Some(address);
            ue.v4 = Some(address);
        }
        if std::mem::take(&mut ue.choose_v6) {
            let prefix = match addresses.v6 {
                Some(prefix) => prefix,
                None => {
                    let endpoints = &mut *self.environment.endpoints;
                    let prefix = endpoints
                        .allocate_ue_v6(session, instance)
                        .ok_or(exhausted)?;
                    self.taken.insert(Endpoint::UeV6(prefix.0, prefix.1));
                    prefix
                }
            };
            addresses.v6 = Some(prefix);
            ue.v6 = Some(prefix);
        }
        Ok(Some(*ue))
    }
}

/// What was chosen, by what asked for it.
#[derive(Debug, Default)]
struct Created {
    pdrs: Vec<CreatedPdr>,
    endpoints: Vec<CreatedTrafficEndpoint>,
}

/// What rules share that leave the choice to us.
struct Chosen {
    /// Addresses that the endpoint of a choose id has.
    shared: BTreeMap<u8, Families>,
    /// Endpoints by choose id.
    numbered: BTreeMap<u8, FTeid>,
    addresses: Addresses,
}

/// The addresses that rules share which leave the choice to us: a session has one of each family.
#[derive(Debug, Clone, Copy, Default)]
struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<(Ipv6Addr, u8)>,
}

/// The first of each family that stands and stays, else that the change names.
fn standing_addresses(standing: &SessionModel, next: &SessionModel) -> Addresses {
    let kept = next.endpoints();
    let named = |model: &SessionModel| -> Vec<UeAddress> {
        model.stated().filter_map(|stated| stated.ue).collect()
    };
    let mut addresses = Addresses::default();
    for ue in named(standing).into_iter().chain(named(next)) {
        let v4 = ue.v4.filter(|v4| kept.contains(&Endpoint::UeV4(*v4)));
        let v6 = ue.v6.filter(|v6| kept.contains(&ue_v6(*v6)));
        addresses.v4 = addresses.v4.or(v4);
        addresses.v6 = addresses.v6.or(v6);
    }
    addresses
}

/// Rules with one choose id share one endpoint, which has the addresses that any of them wants.
fn shared_families(next: &SessionModel) -> BTreeMap<u8, Families> {
    let mut shared: BTreeMap<u8, Families> = BTreeMap::new();
    let pdrs = next.pdrs.values().map(|pdr| pdr.pdi.local_fteid);
    let traffic = next.traffic_endpoints.values();
    for local in pdrs.chain(traffic.map(|endpoint| endpoint.local_fteid)) {
        if let Some(LocalFTeid::Choose {
            v4,
            v6,
            choose_id: Some(number),
        }) = local
        {
            let families = shared.entry(number).or_insert(Families { v4, v6 });
            families.v4 |= v4;
            families.v6 |= v6;
        }
    }
    shared
}

const fn fixed(local: Option<LocalFTeid>) -> Option<FTeid> {
    match local {
        Some(LocalFTeid::Fixed(fteid)) => Some(fteid),
        Some(LocalFTeid::Choose { .. }) | None => None,
    }
}

fn ue_endpoints(ue: Option<UeAddress>) -> impl Iterator<Item = Endpoint> + use<> {
    let v4 = ue.and_then(|ue| ue.v4).map(Endpoint::UeV4);
    let v6 = ue.and_then(|ue| ue.v6).map(ue_v6);
    v4.into_iter().chain(v6)
}

/// The prefix without the bits behind it, so that two spellings of one prefix are one.
fn ue_v6((address, length): (Ipv6Addr, u8)) -> Endpoint {
    let host_bits = 128_u32.saturating_sub(u32::from(length));
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Endpoint::UeV6(Ipv6Addr::from_bits(address.to_bits() & mask), length)
}
