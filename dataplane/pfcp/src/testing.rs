//! Rules and an endpoint pool for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use qlink_types::ids::Teid;

use crate::model::{
    ApplyAction, Claim, Endpoint, Endpoints, Environment, FTeid, Families, Far, FarId, Forwarding,
    Gate, Interface, LocalFTeid, MeasurementMethod, ModelLimits, NetworkInstance, Networks, NodeId,
    OuterHeaderCreation, Pdi, Pdr, PdrId, Precedence, Qer, QerId, Rejection, Resolution, Seid,
    SessionChange, SessionModel, Time, Trigger, Triggers, UeAddress, UeRole, Urr, UrrId,
    VolumeKind, VolumeLimit,
};
use crate::node::{FEATURES, NodeConfig, NodeLimits, PeerPrefix, RequestPort, SeidKey, Timers};
use crate::wire::ENTERPRISE_ID;

/// Where a node of a test is.
pub const UPF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8805);

/// Where its control plane function is.
pub const SMF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), 8805);

/// The configuration of a node of a test: all that it can do, for everybody near [`SMF`].
#[must_use]
pub fn node_config() -> NodeConfig {
    NodeConfig {
        node: NodeId::V4(Ipv4Addr::new(10, 0, 0, 1)),
        v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        v6: None,
        recovery: Time::new(1_700_000_000),
        start: 1,
        key: SeidKey::new([3; 32]),
        peers: vec![PeerPrefix {
            address: SMF.ip(),
            length: 24,
        }],
        request_port: RequestPort::Standard,
        networks: Networks::Any,
        features: FEATURES,
        enterprise: ENTERPRISE_ID,
        limits: NodeLimits::default(),
        timers: Timers::default(),
    }
}

/// Gives out numbers from 1 up, the lowest that is free, up to a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Which session has which endpoint.
    pub taken: BTreeMap<Endpoint, Seid>,
    /// How many endpoints of each kind there are.
    pub size: u16,
}

impl Pool {
    /// Nothing is taken.
    #[must_use]
    pub const fn new(size: u16) -> Self {
        Self {
            taken: BTreeMap::new(),
            size,
        }
    }

    /// Our address of every tunnel endpoint.
    #[must_use]
    pub const fn address() -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, 1)
    }

    /// What `session` has.
    #[must_use]
    pub fn of(&self, session: Seid) -> BTreeSet<Endpoint> {
        let own = self.taken.iter().filter(|(_, owner)| **owner == session);
        own.map(|(endpoint, _)| *endpoint).collect()
    }

    fn allocate(&mut self, session: Seid, make: impl Fn(u16) -> Endpoint) -> Option<u16> {
        let free = (1..=self.size).find(|number| !self.taken.contains_key(&make(*number)))?;
        self.taken.insert(make(free), session);
        Some(free)
    }

    fn claim(&mut self, session: Seid, endpoint: Endpoint) -> Claim {
        if *self.taken.entry(endpoint).or_insert(session) == session {
            Claim::Granted
        } else {
            Claim::Denied
        }
    }
}

fn v4_of(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 60, high, low)
}

fn v6_of(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 0)
}

impl Endpoints for Pool {
    fn allocate_teid(
        &mut self,
        session: Seid,
        _: Interface,
        _: Option<&NetworkInstance>,
        families: Families,
    ) -> Option<FTeid> {
        let teid = |number: u16| Teid::new(number.into());
        let number = self.allocate(session, |number| Endpoint::Tunnel(teid(number)))?;
        Some(FTeid {
            teid: teid(number),
            v4: families.v4.then_some(Self::address()),
            v6: families.v6.then_some(Ipv6Addr::LOCALHOST),
        })
    }

    fn allocate_ue_v4(&mut self, session: Seid, _: Option<&NetworkInstance>) -> Option<Ipv4Addr> {
        self.allocate(session, |number| Endpoint::UeV4(v4_of(number)))
            .map(v4_of)
    }

    fn allocate_ue_v6(
        &mut self,
        session: Seid,
        _: Option<&NetworkInstance>,
    ) -> Option<(Ipv6Addr, u8)> {
        self.allocate(session, |number| Endpoint::UeV6(v6_of(number), 64))
            .map(|number| (v6_of(number), 64))
    }

    fn claim_teid(&mut self, session: Seid, fteid: FTeid) -> Claim {
        if fteid.v4.is_some_and(|address| address != Self::address()) {
            return Claim::Denied;
        }
        self.claim(session, Endpoint::Tunnel(fteid.teid))
    }

    fn claim_ue(&mut self, session: Seid, endpoint: Endpoint) -> Claim {
        self.claim(session, endpoint)
    }

    fn release(&mut self, session: Seid, endpoint: Endpoint) {
        assert_eq!(self.taken.remove(&endpoint), Some(session), "{endpoint:?}");
    }
}

/// What becomes of a session's rules; the application `film` is known.
///
/// # Errors
///
/// As [`SessionModel::changed`].
pub fn changed(
    session: Seid,
    model: &SessionModel,
    change: &SessionChange,
    (pool, networks): (&mut Pool, &Networks),
) -> Result<(SessionModel, Resolution), Rejection> {
    let mut environment = Environment {
        session,
        endpoints: pool,
        knows_application: &|application| application.0 == b"film",
        networks,
    };
    model.changed(change, &ModelLimits::default(), &mut environment)
}

/// Packet detection information that names nothing but where packets come from.
#[must_use]
pub const fn pdi(source: Interface) -> Pdi {
    Pdi {
        source,
        endpoint: None,
        network_instance: None,
        local_fteid: None,
        ue: None,
        filters: Vec::new(),
        application: None,
        qfis: Vec::new(),
        contents: Vec::new(),
        packages: Vec::new(),
    }
}

/// A subscriber's address that the control plane chose.
#[must_use]
pub const fn ue(role: UeRole, v4: Ipv4Addr) -> UeAddress {
    UeAddress {
        role,
        v4: Some(v4),
        v6: None,
        choose_v4: false,
        choose_v6: false,
    }
}

/// A detection rule without usage and `QoS` rules.
#[must_use]
pub const fn pdr(id: u16, pdi: Pdi, far: u32) -> Pdr {
    Pdr {
        id: PdrId::new(id),
        precedence: Precedence::new(100),
        pdi,
        removal: None,
        far: Some(FarId::new(far)),
        urrs: Vec::new(),
        qers: Vec::new(),
    }
}

/// An uplink rule whose tunnel endpoint we choose.
#[must_use]
pub const fn uplink(id: u16, far: u32, choose_id: Option<u8>) -> Pdr {
    let mut pdi = pdi(Interface::Access);
    pdi.local_fteid = Some(LocalFTeid::Choose {
        v4: true,
        v6: false,
        choose_id,
    });
    pdr(id, pdi, far)
}

/// A downlink rule for one subscriber's address.
#[must_use]
pub const fn downlink(id: u16, far: u32, subscriber: Ipv4Addr) -> Pdr {
    let mut pdi = pdi(Interface::Core);
    pdi.ue = Some(ue(UeRole::Destination, subscriber));
    pdr(id, pdi, far)
}

/// Forwards without a tunnel.
#[must_use]
pub const fn to_core(id: u32) -> Far {
    Far {
        id: FarId::new(id),
        action: ApplyAction::Forward { duplicate: false },
        forwarding: Some(Forwarding {
            destination: Interface::Core,
            network_instance: None,
            outer: None,
            redirect: None,
            transport_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    }
}

/// Forwards into a tunnel to `peer`.
#[must_use]
pub fn to_access(id: u32, teid: u32, peer: Ipv4Addr) -> Far {
    let mut far = to_core(id);
    far.forwarding = Some(Forwarding {
        destination: Interface::Access,
        network_instance: None,
        outer: Some(OuterHeaderCreation::Gtpu {
            teid: Teid::new(teid),
            v4: Some(peer),
            v6: None,
        }),
        redirect: None,
        transport_marking: None,
    });
    far
}

/// Measures volume and reports at a threshold of `total` bytes.
#[must_use]
pub fn volume_urr(id: u32, total: u64) -> Urr {
    Urr {
        id: UrrId::new(id),
        method: MeasurementMethod {
            volume: true,
            duration: false,
            event: false,
        },
        volume_kind: VolumeKind::Network,
        triggers: Triggers::NONE.with(Trigger::VolumeThreshold),
        volume_threshold: Some(VolumeLimit {
            total: Some(total),
            uplink: None,
            downlink: None,
        }),
        ..Urr::silent(UrrId::new(id))
    }
}

/// Open gates, no limit.
#[must_use]
pub const fn open_qer(id: u32) -> Qer {
    Qer {
        id: QerId::new(id),
        correlation: None,
        uplink: Gate::Open,
        downlink: Gate::Open,
        mbr: None,
        gbr: None,
        qfi: None,
    }
}

/// A usual session: uplink with a chosen endpoint, downlink by address, one usage rule, one
/// `QoS` rule.
#[must_use]
pub fn usual_session(subscriber: Ipv4Addr) -> SessionChange {
    let mut up = uplink(1, 1, Some(1));
    let mut down = downlink(2, 2, subscriber);
    for pdr in [&mut up, &mut down] {
        pdr.urrs.push(UrrId::new(1));
        pdr.qers.push(QerId::new(1));
    }
    SessionChange {
        create_pdrs: vec![up, down],
        create_fars: vec![to_core(1), to_access(2, 77, Ipv4Addr::new(10, 0, 0, 9))],
        create_urrs: vec![volume_urr(1, 1_000_000)],
        create_qers: vec![open_qer(1)],
        ..SessionChange::default()
    }
}
