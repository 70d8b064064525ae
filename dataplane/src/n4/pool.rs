//! Tunnel endpoints, subscribers' addresses and session slots of PFCP sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_meter::process_secret;
use qlink_pfcp::Association;
use qlink_pfcp::model::{
    Claim, Endpoint, Endpoints, FTeid, Families, Interface, NetworkInstance, Seid,
};
use qlink_types::ids::Teid;

use super::config::{Ipv4Pool, Ipv6Pool};
use crate::control::{Shard, allocate_in};
use crate::shard::Place;

/// Draws of a further endpoint until one is free (chosen: sessions with several endpoints are few
/// among 2^28).
const DRAWS_MAX: u32 = 64;

/// Where a session lives.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) place: Place,
    /// Its first endpoint, which names the place.
    pub(crate) teid: Teid,
    /// What the node holds for it.
    endpoints: BTreeSet<Endpoint>,
    /// Whether a worker has it.
    pub(crate) stands: bool,
}

/// Who has what.
#[derive(Debug)]
pub(crate) struct Pool {
    seats: BTreeMap<Seid, Seat>,
    owners: BTreeMap<Endpoint, Seid>,
    /// First endpoints of sessions, whether the node knows them or not.
    own_teids: BTreeSet<Teid>,
    v4: Option<Ipv4Pool>,
    v6: Option<Ipv6Pool>,
    next_v4: u32,
    next_v6: u32,
    draws: u64,
    secret: u64,
    /// Our addresses towards BaseStations.
    n3: IpAddr,
}

/// The pool together with what gateways' sessions have.
pub(crate) struct PoolView<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) shards: &'a mut [Shard],
    pub(crate) association: &'a Association,
    pub(crate) now_ns: u64,
}

impl Pool {
    pub(crate) fn new(v4: Option<Ipv4Pool>, v6: Option<Ipv6Pool>, n3: IpAddr) -> Self {
        Self {
            seats: BTreeMap::new(),
            owners: BTreeMap::new(),
            own_teids: BTreeSet::new(),
            v4,
            v6,
            next_v4: 0,
            next_v6: 0,
            draws: 0,
            secret: process_secret(),
            n3,
        }
    }

    /// A session's seat.
    pub(crate) fn seat(&self, session: Seid) -> Option<&Seat> {
        self.seats.get(&session)
    }

    /// Seats a session that stands in a worker already.
    pub(crate) fn reseat(&mut self, session: Seid, place: Place, teid: Teid) {
        self.own_teids.insert(teid);
        let seat = Seat {
            place,
            teid,
            endpoints: BTreeSet::new(),
            stands: false,
        };
        self.seats.insert(session, seat);
    }

    /// A worker has the session from now on, or no longer.
    pub(crate) fn set_stands(&mut self, session: Seid, stands: bool) {
        if let Some(seat) = self.seats.get_mut(&session) {
            seat.stands = stands;
        }
    }

    /// Takes a session's seat away.
    pub(crate) fn unseat(&mut self, session: Seid) -> Option<Seat> {
        let seat = self.seats.remove(&session)?;
        self.own_teids.remove(&seat.teid);
        for endpoint in &seat.endpoints {
            self.owners.remove(endpoint);
        }
        Some(seat)
    }

    /// Whether a session has this.
    pub(crate) fn has(&self, endpoint: Endpoint) -> bool {
        let first = matches!(endpoint, Endpoint::Tunnel(teid) if self.own_teids.contains(&teid));
        first || self.owners.contains_key(&endpoint)
    }

    /// The address part of our endpoints.
    fn fteid(&self, teid: Teid, families: Families) -> Option<FTeid> {
        match self.n3 {
            IpAddr::V4(v4) if families.v4 => Some(FTeid {
                teid,
                v4: Some(v4),
                v6: None,
            }),
            IpAddr::V6(v6) if families.v6 => Some(FTeid {
                teid,
                v4: None,
                v6: Some(v6),
            }),
            _ => None,
        }
    }

    fn own(&mut self, session: Seid, endpoint: Endpoint) {
        self.owners.insert(endpoint, session);
        if let Some(seat) = self.seats.get_mut(&session) {
            seat.endpoints.insert(endpoint);
        }
    }
}

impl PoolView<'_> {
    /// The session's seat; a new one when it has none.
    pub(crate) fn sit(&mut self, session: Seid) -> Option<Seat> {
        if let Some(seat) = self.pool.seats.get(&session) {
            return Some(seat.clone());
        }
        let (association, pool) = (self.association, &*self.pool);
        let taken = |teid| {
            association.is_teid_taken(teid)
                || pool.own_teids.contains(&teid)
                || pool.owners.contains_key(&Endpoint::Tunnel(teid))
        };
        let (place, teid) = allocate_in(self.shards, self.now_ns, &taken)?;
        self.pool.reseat(session, place, teid);
        self.pool.seats.get(&session).cloned()
    }

    /// Gives a session's seat back.
    pub(crate) fn stand_up(&mut self, session: Seid) {
        if let Some(seat) = self.pool.unseat(session)
            && let Some(shard) = self.shards.get_mut(usize::from(seat.place.shard))
        {
            shard.release(seat.place.slot, self.now_ns);
        }
    }

    fn is_free(&self, session: Seid, endpoint: Endpoint) -> bool {
        let owner = self.pool.owners.get(&endpoint);
        let others = match endpoint {
            Endpoint::Tunnel(teid) => {
                let seat = self.pool.seats.get(&session);
                let own = seat.is_some_and(|seat| seat.teid == teid);
                !own && (self.association.is_teid_taken(teid)
                    || self.pool.own_teids.contains(&teid))
            }
            Endpoint::UeV4(address) => self.association.is_ue_taken(&address.into()),
            Endpoint::UeV6(address, _) => self.association.is_ue_taken(&address.into()),
        };
        !others && owner.is_none_or(|owner| *owner == session)
    }

    /// Takes what the control plane chose, when it is free and the session has a place.
    fn claim(&mut self, session: Seid, endpoint: Endpoint) -> Claim {
        if !self.is_free(session, endpoint) {
            return Claim::Denied;
        }
        if self.sit(session).is_none() {
            return Claim::Full;
        }
        self.pool.own(session, endpoint);
        Claim::Granted
    }

    /// A further endpoint in the session's shard.
    fn draw(&mut self, session: Seid, place: Place) -> Option<Teid> {
        for _ in 0..DRAWS_MAX {
            self.pool.draws = self.pool.draws.wrapping_add(1);
            let mixed = self.pool.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.pool.secret;
            let [a, b, c, d, ..] = mixed.rotate_left(29).to_le_bytes();
            let low = u32::from_le_bytes([a, b, c, d]) & 0x0fff_ffff;
            let teid = Teid::new(u32::from(place.shard) << 28 | low);
            let endpoint = Endpoint::Tunnel(teid);
            if teid.get() != 0 && self.is_free(session, endpoint) {
                return Some(teid);
            }
        }
        None
    }
}

impl Endpoints for PoolView<'_> {
    fn allocate_teid(
        &mut self,
        session: Seid,
        _interface: Interface,
        _instance: Option<&NetworkInstance>,
        families: Families,
    ) -> Option<FTeid> {
        self.pool.fteid(Teid::new(1), families)?;
        let seat = self.sit(session)?;
        let first = Endpoint::Tunnel(seat.teid);
        let teid = if seat.endpoints.contains(&first) {
            self.draw(session, seat.place)?
        } else {
            seat.teid
        };
        self.pool.own(session, Endpoint::Tunnel(teid));
        self.pool.fteid(teid, families)
    }

    fn allocate_ue_v4(
        &mut self,
        session: Seid,
        _instance: Option<&NetworkInstance>,
    ) -> Option<Ipv4Addr> {
        self.sit(session)?;
        let pool = self.pool.v4?;
        for _ in 0..pool.count() {
            let address = pool.address(self.pool.next_v4);
            self.pool.next_v4 = next(self.pool.next_v4, pool.count());
            let endpoint = Endpoint::UeV4(address);
            if !self.pool.owners.contains_key(&endpoint) && self.is_free(session, endpoint) {
                self.pool.own(session, endpoint);
                return Some(address);
            }
        }
        None
    }

    fn allocate_ue_v6(
        &mut self,
        session: Seid,
        _instance: Option<&NetworkInstance>,
    ) -> Option<(Ipv6Addr, u8)> {
        self.sit(session)?;
        let pool = self.pool.v6?;
        for _ in 0..pool.count().min(1 << 20) {
            let prefix = pool.prefix(self.pool.next_v6);
            self.pool.next_v6 = next(self.pool.next_v6, pool.count());
            let endpoint = Endpoint::UeV6(prefix, 64);
            if !self.pool.owners.contains_key(&endpoint) && self.is_free(session, endpoint) {
                self.pool.own(session, endpoint);
                return Some((prefix, 64));
            }
        }
        None
    }

    fn claim_teid(&mut self, session: Seid, fteid: FTeid) -> Claim {
        let v4 = fteid.v4.is_none_or(|v4| self.pool.n3 == IpAddr::V4(v4));
        let v6 = fteid.v6.is_none_or(|v6| self.pool.n3 == IpAddr::V6(v6));
        let endpoint = Endpoint::Tunnel(fteid.teid);
        if !v4 || !v6 {
            return Claim::Denied;
        }
        self.claim(session, endpoint)
    }

    fn claim_ue(&mut self, session: Seid, endpoint: Endpoint) -> Claim {
        // Tables hold whole addresses and prefixes of 64 bits.
        let held = !matches!(endpoint, Endpoint::UeV6(_, length) if length != 64 && length != 128);
        if !held {
            return Claim::Denied;
        }
        self.claim(session, endpoint)
    }

    fn release(&mut self, session: Seid, endpoint: Endpoint) {
        if self.pool.owners.get(&endpoint) == Some(&session) {
            self.pool.owners.remove(&endpoint);
        }
        let Some(seat) = self.pool.seats.get_mut(&session) else {
            return;
        };
        seat.endpoints.remove(&endpoint);
        if seat.endpoints.is_empty() && !seat.stands {
            self.stand_up(session);
        }
    }
}

const fn next(number: u32, count: u32) -> u32 {
    let next = number.saturating_add(1);
    if next >= count { 0 } else { next }
}
