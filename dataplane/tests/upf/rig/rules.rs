//! Rules as a mobile core states them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_pfcp::model::{
    FarChanges, OuterHeaderCreation, SdfFilter, SdfRule, SessionChange, VolumeLimit,
};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::wire::parse_flow;
use qlink_types::ids::Teid;

use super::namespaces::alike;
use super::{Bearer, Opened, STATIONS};

/// A subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriber {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    /// The BaseStation's end of his tunnel.
    pub(crate) downlink: Teid,
}

impl Subscriber {
    /// Number `number` with addresses of both versions.
    pub(crate) fn new(number: u8) -> Self {
        Self {
            v4: Some(Ipv4Addr::new(10, 60, 0, number)),
            v6: Some(Ipv6Addr::new(
                0x2001,
                0xdb8,
                0x60,
                number.into(),
                0,
                0,
                0,
                9,
            )),
            downlink: Teid::new(0x7000 + u32::from(number)),
        }
    }

    /// His address of the version that `other` has.
    pub(crate) fn like(&self, other: IpAddr) -> IpAddr {
        let own = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        let mut own = own.into_iter().flatten();
        own.find(|own| alike(*own, other)).unwrap()
    }

    /// His way through the first BaseStation.
    pub(crate) fn bearer(&self, opened: &Opened) -> Bearer {
        let v6 = self.v6.map(IpAddr::V6);
        let own = self.v4.map(IpAddr::V4).into_iter().chain(v6);
        Bearer {
            own: own.collect(),
            uplink: opened.uplink().teid,
            downlink: self.downlink,
            station: 0,
        }
    }

    pub(crate) fn plan(&self) -> SessionPlan {
        let IpAddr::V4(gnb) = STATIONS[0] else {
            unreachable!("it is written so");
        };
        SessionPlan {
            ue: self.v4,
            gnb,
            gnb_teid: self.downlink,
            threshold: None,
            quota: None,
            mbr: None,
            qfi: None,
            contents: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// The usual rules: everything both ways, measured by usage rule 1.
    pub(crate) fn rules(&self) -> SessionChange {
        self.rules_of(&self.plan())
    }

    /// Rules by a plan, with his addresses of both versions.
    pub(crate) fn rules_of(&self, plan: &SessionPlan) -> SessionChange {
        let mut rules = plan.rules();
        for pdr in &mut rules.create_pdrs {
            if let Some(ue) = &mut pdr.pdi.ue {
                ue.choose_v4 = false;
                ue.v6 = self.v6.map(|v6| (v6, 64));
            }
        }
        rules
    }
}

/// A flow description's rule.
pub(crate) fn flow(text: &str) -> SdfRule {
    parse_flow(text).unwrap()
}

/// A packet filter.
pub(crate) fn filter(text: &str) -> SdfFilter {
    SdfFilter {
        rule: Some(flow(text)),
        text: text.to_owned(),
        ..SdfFilter::default()
    }
}

/// A bound of both directions together.
pub(crate) const fn volume(bytes: u64) -> Option<VolumeLimit> {
    Some(VolumeLimit {
        total: Some(bytes),
        uplink: None,
        downlink: None,
    })
}

/// The tunnel to a station.
pub(crate) fn through(station: usize, teid: Teid) -> OuterHeaderCreation {
    let (v4, v6) = match STATIONS[station] {
        IpAddr::V4(v4) => (Some(v4), None),
        IpAddr::V6(v6) => (None, Some(v6)),
    };
    OuterHeaderCreation::Gtpu { teid, v4, v6 }
}

/// A change of the downlink's way to another BaseStation.
pub(crate) fn downlink_far(station: usize, teid: Teid) -> FarChanges {
    FarChanges {
        id: SessionPlan::FARS[1],
        outer: Some(through(station, teid)),
        ..FarChanges::default()
    }
}
