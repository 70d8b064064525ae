//! One session's rules on the packet path.

use std::net::{IpAddr, Ipv6Addr};

use qlink_forward::redirect::Readdress;
use qlink_meter::{
    Direction, PacketCount, Policer, ProofUpdate, RuleBlock, SessionUrrs, UrrList, prefix_of,
};
use qlink_pfcp::model::{
    Endpoint, Interface, LocalFTeid, OuterHeaderCreation, Seid, SessionModel, UsageReport,
};
use qlink_pfcp::{SessionRules, Sponsor};
use qlink_types::ids::{ContentId, PackageId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};

use super::proven::{Demand, ProvenRules};
use crate::contents::Copy;

/// A subscriber's address, or an IPv6 prefix of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UePrefix {
    Host(IpAddr),
    /// The prefix's first address.
    Prefix(Ipv6Addr),
}

impl UePrefix {
    /// What tables look up.
    pub(crate) const fn key(self) -> IpAddr {
        match self {
            Self::Host(address) => address,
            Self::Prefix(first) => IpAddr::V6(first),
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Host(own), address) => own == address,
            (Self::Prefix(first), IpAddr::V6(address)) => prefix_of(address) == first,
            (Self::Prefix(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Everything that a worker needs to know to run a session by its rules.
#[derive(Debug)]
pub(crate) struct RuledSetup {
    pub(crate) seid: Seid,
    pub(crate) model: SessionModel,
    pub(crate) block: RuleBlock,
    pub(crate) inactivity_s: Option<u32>,
    /// The session as the arena names it, with the contents that its rules measure as sponsored.
    pub(crate) rules: SessionRules,
    pub(crate) copies: Vec<(ContentId, Copy)>,
}

/// Contents that a session only measures: nobody pays by it. `None` without any.
pub(crate) fn measured(contents: Vec<ContentId>) -> Option<Sponsor> {
    (!contents.is_empty()).then(|| Sponsor {
        package: PackageId::ZERO,
        package_epoch: PackageEpoch::ZERO,
        viewer: ViewerKey::ZERO,
        contents: contents.try_into().unwrap_or_default(),
        origins: Vec::new().try_into().unwrap_or_default(),
        limit: Bytes::new(u64::MAX),
        repeat: RepeatPolicy::Free,
    })
}

/// A packet that usage rules count once it has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) urrs: UrrList,
    pub(crate) packet: PacketCount,
    /// The other ends under which it leaves.
    pub(crate) edit: Option<Readdress>,
}

/// A session and its rules.
#[derive(Debug)]
pub(crate) struct Ruled {
    pub(crate) seid: Seid,
    pub(crate) block: RuleBlock,
    pub(crate) policer: Policer,
    pub(crate) urrs: SessionUrrs,
    /// Which of them measure contents.
    pub(crate) proven: ProvenRules,
    pub(crate) places: Places,
    pub(crate) inactivity_ns: Option<u64>,
    pub(crate) last_packet_ns: u64,
    /// Reports that found no room on the way to the control thread.
    pub(crate) unsent: Vec<UsageReport>,
}

impl Ruled {
    /// Content bytes that may be pending at once under every quota of proven bytes.
    #[inline]
    pub(crate) fn proven_room(&self) -> u64 {
        self.proven.room(&self.urrs)
    }

    /// Whether the quotas of proven bytes have room for a segment.
    pub(crate) fn admit_proven(&mut self, demands: &[Demand]) -> bool {
        self.proven.admit(&mut self.urrs, demands)
    }

    /// Counts proven bytes of the content in `slot` in the rules that measure it.
    pub(crate) fn account_proven(&mut self, slot: usize, bytes: u64, update: &mut ProofUpdate<'_>) {
        self.proven.account(&mut self.urrs, (slot, bytes), update);
    }

    /// Counts charged bytes of content flows in the rules that name contents.
    pub(crate) fn account_charged(
        &mut self,
        (direction, bytes): (qlink_content::Direction, u64),
        update: &mut ProofUpdate<'_>,
    ) {
        if bytes == 0 {
            return;
        }
        let direction = match direction {
            qlink_content::Direction::Uplink => Direction::Uplink,
            qlink_content::Direction::Downlink => Direction::Downlink,
        };
        let moved = (direction, bytes);
        self.proven.account_charged(&mut self.urrs, moved, update);
    }
}

/// Where a session's packets come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places {
    /// Our endpoints besides the session's first.
    pub(crate) teids: Vec<Teid>,
    /// Subscriber's addresses; the first is the session's own.
    pub(crate) ues: Vec<UePrefix>,
    /// Ends of tunnels: their packets are the session's.
    pub(crate) tunnels: Vec<(IpAddr, Teid)>,
    /// Our endpoints that others than BaseStations send to, and who they are.
    pub(crate) inward: Vec<(Teid, Interface)>,
}

impl Places {
    /// The places of a model whose first endpoint is `own`.
    pub(crate) fn of(model: &SessionModel, own: Teid) -> Self {
        let mut places = Self::default();
        for endpoint in model.endpoints() {
            match endpoint {
                Endpoint::Tunnel(teid) if teid != own => {
                    places.teids.push(teid);
                }
                Endpoint::Tunnel(_) => {}
                Endpoint::UeV4(address) => {
                    places.ues.push(UePrefix::Host(address.into()));
                }
                Endpoint::UeV6(address, 128) => {
                    places.ues.push(UePrefix::Host(address.into()));
                }
                Endpoint::UeV6(address, _) => {
                    places.ues.push(UePrefix::Prefix(prefix_of(address)));
                }
            }
        }
        for far in model.fars.values() {
            let outer = far.forwarding.as_ref().and_then(|to| to.outer);
            if let Some(OuterHeaderCreation::Gtpu { teid, v4, v6 }) = outer {
                let v4 = v4.map(|address| (IpAddr::from(address), teid));
                let v6 = v6.map(|address| (IpAddr::from(address), teid));
                places.tunnels.extend(v4.into_iter().chain(v6));
            }
        }
        places.tunnels.sort_unstable();
        places.tunnels.dedup();
        for pdr in model.pdrs.values() {
            if let Some(LocalFTeid::Fixed(fteid)) = pdr.pdi.local_fteid
                && pdr.pdi.source != Interface::Access
            {
                places.inward.push((fteid.teid, pdr.pdi.source));
            }
        }
        places
    }

    /// Who sends to one of our endpoints.
    #[inline]
    pub(crate) fn source_of(&self, teid: Teid) -> Interface {
        let mut inward = self.inward.iter();
        let known = inward.find(|(endpoint, _)| *endpoint == teid);
        known.map_or(Interface::Access, |(_, source)| *source)
    }

    /// Whether `address` may be the subscriber's: where no rule names one, it is another node's to
    /// look at it, and the tunnel alone says whose the packet is.
    #[inline]
    pub(crate) fn is_ue(&self, address: IpAddr) -> bool {
        self.ues.is_empty() || self.ues.iter().any(|own| own.contains(address))
    }

    /// Whether `address` is the end of one of the tunnels.
    #[inline]
    pub(crate) fn is_peer(&self, address: IpAddr) -> bool {
        self.tunnels.iter().any(|(peer, _)| *peer == address)
    }
}
