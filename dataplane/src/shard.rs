//! Which worker a session belongs to.
//!
//! Every worker owns one shard: its tables, its arena, its part of the TEIDs (the shard is a TEID's
//! upper four bits). A session lives in one shard, both directions. A packet that another worker
//! received is handed over to the owner, whom [`Others`] finds.

use std::net::{IpAddr, Ipv4Addr};

use qlink_io::handover::{Bell, Outlet};
use qlink_io::{BURST_MAX, Descriptor, handover};
use qlink_meter::{KeyedIndex, SessionSlot, prefix_of};
use qlink_pfcp::SessionRules;
use qlink_pfcp::model::SessionModel;
use qlink_types::ids::Teid;

use crate::pipeline::Side;
use crate::ruled::Places;

/// Most workers of one data plane: a TEID has four bits for its shard.
pub(crate) const WORKERS_MAX: u8 = 16;

/// Packets that wait for a worker, on each side (chosen: 16 full bursts).
const INBOX_PARCELS: usize = 512;

/// Places of an inbox: beside those of packets that wait, for what all others may have received
/// when they learn that there is no more room.
const fn parcels(workers: usize) -> usize {
    let under_way = workers.saturating_sub(1).saturating_mul(BURST_MAX);
    INBOX_PARCELS.saturating_add(under_way)
}

/// Where a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: u8,
    pub(crate) slot: SessionSlot,
}

/// The shard in a TEID; whether the TEID is one of ours only its owner can tell.
pub(crate) const fn shard_of(teid: Teid) -> u8 {
    let [high, ..] = teid.get().to_be_bytes();
    high >> 4
}

/// What other workers need to know of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) shard: u8,
    /// The subscriber's address; `None`: it leads nowhere by an address.
    pub(crate) ue: Option<IpAddr>,
    /// Uplink endpoint, where it is not one of ours.
    pub(crate) teid: Option<Teid>,
    pub(crate) peer: IpAddr,
}

impl Route {
    /// The route to a session in `place`; `None` while its rules carry no TEID.
    pub(crate) fn to(place: Place, rules: &SessionRules) -> Option<Self> {
        let teid = rules.teid?;
        let own = shard_of(teid) == place.shard
            && qlink_meter::TeidAllocator::slot_of(teid) == place.slot;
        Some(Self {
            shard: place.shard,
            ue: Some(rules.ue),
            teid: (!own).then_some(teid),
            peer: rules.path.peer.ip(),
        })
    }
}

impl Route {
    /// Every route to a session with rules, whose first endpoint `own` names its place.
    pub(crate) fn all(place: Place, own: Teid, model: &SessionModel) -> Vec<Self> {
        let places = Places::of(model, own);
        let mut peers: Vec<IpAddr> = places.tunnels.iter().map(|(peer, _)| *peer).collect();
        peers.dedup();
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let first = peers.first().copied().unwrap_or(nobody);
        let shard = place.shard;
        let route = |ue, teid, peer| Self {
            shard,
            ue,
            teid,
            peer,
        };
        let teids = places.teids.iter();
        let mut routes: Vec<Self> = teids.map(|teid| route(None, Some(*teid), first)).collect();
        let ues = places.ues.iter().map(|ue| Some(ue.key()));
        routes.extend(ues.map(|ue| route(ue, None, first)));
        let told = if routes.is_empty() { 0 } else { 1 };
        routes.extend(peers.iter().skip(told).map(|peer| route(None, None, *peer)));
        routes
    }
}

/// The way to one other worker.
#[derive(Debug, Clone)]
struct Way {
    n3: Outlet,
    n6: Outlet,
    bell: Bell,
}

/// Where the sessions of other workers are, and the ways there.
#[derive(Debug)]
pub(crate) struct Others {
    /// By shard; our own place is empty.
    ways: Vec<Option<Way>>,
    by_ue: KeyedIndex<IpAddr>,
    foreign: KeyedIndex<u32>,
    /// How many sessions of others each BaseStation address carries.
    peers: KeyedIndex<IpAddr>,
    /// Workers to be woken after the burst, a bit each.
    rung: u16,
}

/// Whether a packet found its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It is in the owner's inbox.
    Over,
    /// The owner's inbox is full.
    Refused,
    /// No other worker has its session.
    Nobody,
}

/// The inboxes of one worker.
#[derive(Debug)]
pub(crate) struct Inboxes {
    pub(crate) n3: handover::Inbox,
    pub(crate) n6: handover::Inbox,
    /// What BaseStations send through the tunnel, where there is one.
    pub(crate) tunnel: Option<handover::Inbox>,
}

impl Inboxes {
    /// Whether nothing waits in any of them.
    pub(crate) fn are_empty(&self) -> bool {
        let tunnel = self.tunnel.as_ref();
        self.n3.is_empty() && self.n6.is_empty() && tunnel.is_none_or(handover::Inbox::is_empty)
    }
}

/// Connects `workers` workers with each other; `bells[n]` wakes worker n, `sessions` is the room
/// for sessions of the whole data plane. One worker alone needs no ways.
pub(crate) fn connect(bells: &[Bell], sessions: u32, secret: u64) -> Vec<(Others, Inboxes)> {
    let (ways, inboxes): (Vec<Way>, Vec<Inboxes>) = bells
        .iter()
        .map(|bell| {
            let parcels = if bells.len() > 1 {
                parcels(bells.len())
            } else {
                0
            };
            let bytes = if bells.len() > 1 {
                qlink_io::udp::DATAGRAM_MAX
            } else {
                0
            };
            let (n3, n3_inbox) = handover::handover(parcels, bytes);
            let (n6, n6_inbox) = handover::handover(parcels, bytes);
            let bell = bell.clone();
            let inboxes = Inboxes {
                n3: n3_inbox,
                n6: n6_inbox,
                tunnel: None,
            };
            (Way { n3, n6, bell }, inboxes)
        })
        .unzip();
    let room = if bells.len() > 1 {
        sessions as usize
    } else {
        1
    };
    inboxes
        .into_iter()
        .enumerate()
        .map(|(own, inboxes)| {
            let ways = ways.iter().enumerate();
            let others = Others {
                ways: ways
                    .map(|(shard, way)| (shard != own).then(|| way.clone()))
                    .collect(),
                by_ue: KeyedIndex::new(room, secret),
                foreign: KeyedIndex::new(room, secret),
                peers: KeyedIndex::new(room, secret),
                rung: 0,
            };
            (others, inboxes)
        })
        .collect()
}

impl Others {
    /// One worker alone.
    pub(crate) fn none() -> Self {
        Self {
            ways: Vec::new(),
            by_ue: KeyedIndex::new(1, 0),
            foreign: KeyedIndex::new(1, 0),
            peers: KeyedIndex::new(1, 0),
            rung: 0,
        }
    }

    /// Learns of a session of another worker.
    pub(crate) fn add(&mut self, route: &Route) {
        let shard = u32::from(route.shard);
        // There is room for every session that the data plane may have.
        if let Some(ue) = route.ue {
            let _ = self.by_ue.insert(ue, shard);
        }
        if let Some(teid) = route.teid {
            let _ = self.foreign.insert(teid.get(), shard);
        }
        let carried = self.peers.get(&route.peer).unwrap_or(0);
        let _ = self.peers.insert(route.peer, carried.saturating_add(1));
    }

    /// Forgets it.
    pub(crate) fn remove(&mut self, route: &Route) {
        if let Some(ue) = &route.ue {
            self.by_ue.remove(ue);
        }
        if let Some(teid) = route.teid {
            self.foreign.remove(&teid.get());
        }
        match self.peers.get(&route.peer).unwrap_or(0) {
            0 | 1 => {
                self.peers.remove(&route.peer);
            }
            carried => {
                let _ = self.peers.insert(route.peer, carried.saturating_sub(1));
            }
        }
    }

    /// Whether a session of another worker has a BaseStation with this address.
    pub(crate) fn is_peer(&self, address: &IpAddr) -> bool {
        self.peers.get(address).is_some()
    }

    /// Hands an uplink packet to the worker that owns `teid`.
    pub(crate) fn uplink(&mut self, teid: Teid, descriptor: &Descriptor, frame: &[u8]) -> Handed {
        let known = self.foreign.get(&teid.get());
        let shard = known.unwrap_or_else(|| u32::from(shard_of(teid)));
        self.hand(shard, Side::N3, descriptor, frame)
    }

    /// Hands a downlink packet to the worker that owns the subscriber.
    pub(crate) fn downlink(
        &mut self,
        ue: &IpAddr,
        descriptor: &Descriptor,
        frame: &[u8],
    ) -> Handed {
        let known = self.by_ue.get(ue).or_else(|| match ue {
            IpAddr::V4(_) => None,
            IpAddr::V6(ue) => self.by_ue.get(&IpAddr::V6(prefix_of(*ue))),
        });
        match known {
            Some(shard) => self.hand(shard, Side::N6, descriptor, frame),
            None => Handed::Nobody,
        }
    }

    /// Hands a packet from the network to a worker.
    pub(crate) fn hand_to_worker(
        &mut self,
        shard: u8,
        descriptor: &Descriptor,
        frame: &[u8],
    ) -> Handed {
        self.hand(shard.into(), Side::N6, descriptor, frame)
    }

    fn hand(&mut self, shard: u32, side: Side, descriptor: &Descriptor, frame: &[u8]) -> Handed {
        let Some(Some(way)) = self.ways.get(shard as usize) else {
            return Handed::Nobody;
        };
        let outlet = match side {
            Side::N3 => &way.n3,
            Side::N6 => &way.n6,
        };
        if !outlet.push(descriptor, frame) {
            return Handed::Refused;
        }
        self.rung |= 1 << (shard & 15);
        Handed::Over
    }

    /// Whether every other worker has room for a burst of each of us. Who asks before each burst,
    /// as all do, is never refused: no more can be under way than there is room for.
    #[inline]
    pub(crate) fn have_room(&self) -> bool {
        let needed = self.ways.len().saturating_sub(1).saturating_mul(BURST_MAX);
        self.ways
            .iter()
            .flatten()
            .all(|way| way.n3.room() >= needed && way.n6.room() >= needed)
    }

    /// Wakes every worker that got a packet since the last call.
    #[inline]
    pub(crate) fn ring(&mut self) {
        if self.rung == 0 {
            return;
        }
        for (shard, way) in self.ways.iter().enumerate() {
            if let Some(way) = way
                && self.rung & 1 << shard != 0
            {
                way.bell.ring();
            }
        }
        self.rung = 0;
    }
}

#[cfg(test)]
mod tests {
    use qlink_io::handover::bell;
    use qlink_io::{Burst, PacketSource as _};

    use super::*;

    const UE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn descriptor() -> Descriptor {
        Descriptor {
            offset: 0,
            len: 0,
            orig_len: 0,
            timestamp_ns: 0,
            peer: None,
            link: qlink_wire::LinkType::RawIp,
        }
    }

    fn route(teid: Option<u32>) -> Route {
        Route {
            shard: 1,
            ue: Some(UE),
            teid: teid.map(Teid::new),
            peer: UE,
        }
    }

    #[test]
    fn a_packet_reaches_the_owner_by_teid_by_foreign_teid_and_by_subscriber() {
        let bells: Vec<Bell> = (0..2).map(|_| bell().unwrap().0).collect();
        let mut ends = connect(&bells, 4, 1);
        let (_, mut second) = ends.pop().unwrap();
        let (mut others, _) = ends.pop().unwrap();
        others.add(&route(Some(0x0000_0101)));

        let own = others.uplink(Teid::new(0x1000_0000), &descriptor(), b"own");
        let foreign = others.uplink(Teid::new(0x0000_0101), &descriptor(), b"foreign");
        let down = others.downlink(&UE, &descriptor(), b"down");

        assert_eq!([own, foreign, down], [Handed::Over; 3]);
        let mut burst = Burst::new();
        assert_eq!(second.n3.recv_burst(&mut burst).unwrap(), 2);
        assert_eq!(second.n6.recv_burst(&mut burst).unwrap(), 1);
        assert!(others.is_peer(&UE));
    }

    #[test]
    fn a_forgotten_session_and_our_own_shard_are_nobodys() {
        let bells: Vec<Bell> = (0..2).map(|_| bell().unwrap().0).collect();
        let (mut others, _) = connect(&bells, 4, 1).remove(0);
        others.add(&route(None));
        others.remove(&route(None));

        let down = others.downlink(&UE, &descriptor(), b"x");
        let own = others.uplink(Teid::new(0x0000_0101), &descriptor(), b"x");
        let absent = others.uplink(Teid::new(0x7000_0101), &descriptor(), b"x");

        assert_eq!([down, own, absent], [Handed::Nobody; 3]);
        assert!(!others.is_peer(&UE));
    }

    /// All other workers hand everything that they receive to one that does not take it.
    #[test]
    fn who_asks_for_room_before_every_burst_is_never_refused() {
        let bells: Vec<Bell> = (0..WORKERS_MAX).map(|_| bell().unwrap().0).collect();
        let mut ends = connect(&bells, 4, 1);
        let (_, mut owner) = ends.remove(0);
        let mut handed = 0;

        for _ in 0..100 {
            // Those who were told of room before any of them used it.
            let told: Vec<bool> = ends.iter().map(|(others, _)| others.have_room()).collect();
            for ((others, _), _) in ends.iter_mut().zip(told).filter(|(_, room)| *room) {
                for _ in 0..BURST_MAX {
                    let over = others.uplink(Teid::new(0x0000_0101), &descriptor(), b"x");
                    assert_eq!(over, Handed::Over);
                    handed += 1;
                }
            }
        }

        assert!(handed >= BURST_MAX, "{handed}");
        let mut burst = Burst::new();
        while owner.n3.recv_burst(&mut burst).unwrap() > 0 {}
        assert!(ends.iter().all(|(others, _)| others.have_room()));
    }

    #[test]
    fn the_burst_that_overfills_an_inbox_is_refused() {
        let bells: Vec<Bell> = (0..2).map(|_| bell().unwrap().0).collect();
        let (mut others, _) = connect(&bells, 4, 1).remove(0);

        let handed: Vec<Handed> = (0..=parcels(2))
            .map(|_| others.uplink(Teid::new(0x1000_0000), &descriptor(), b"x"))
            .collect();

        assert_eq!(handed.last(), Some(&Handed::Refused));
        assert!(
            handed
                .iter()
                .rev()
                .skip(1)
                .all(|handed| *handed == Handed::Over)
        );
    }
}
