//! Sets of sessions: parts of nodes that fail together, and what is asked about all of their
//! sessions at once.
//!
//! Source: TS 29.244 §7.4.6 and §7.4.7, TS 23.007 §23 and §31.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::defect::Fault;
use super::ie::{Octets, Value, Writer, message, part};
use super::numbers::{CauseCode, IeType};
use super::values::flag;
use crate::model::NodeId;

message! {
    /// Sessions of a part of a node that failed go. Source: TS 29.244 §7.4.6.1.
    SessionSetDeletionRequest {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// The parts; without one, nothing is named and the request is refused.
        sets: Vec<FqCsid> = list FQ_CSID,
    }
}

message! {
    /// Source: TS 29.244 §7.4.6.2.
    SessionSetDeletionResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
    }
}

message! {
    /// Sessions of a set are another control plane function's from now on.
    ///
    /// Source: TS 29.244 §7.4.7.1.
    SessionSetModificationRequest {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// Which sessions, and whose they are; at least one.
        changes: Vec<SessionChangeInfo> = some PFCP_SESSION_CHANGE_INFO,
    }
}

message! {
    /// Source: TS 29.244 §7.4.7.2.
    SessionSetModificationResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
    }
}

/// Sessions that move, by any of three names, and where to. Source: TS 29.244 §7.4.7.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionChangeInfo {
    /// Those of these parts of nodes.
    pub sets: Vec<FqCsid>,
    /// Those of these groups.
    pub groups: Vec<GroupId>,
    /// Those whose session endpoint at the control plane has one of these addresses.
    pub addresses: Vec<CpAddress>,
    /// Who controls them from now on.
    pub alternative: AlternativeSmf,
}

part!(SessionChangeInfo {
    sets: list FQ_CSID,
    groups: list GROUP_ID,
    addresses: list CP_IP_ADDRESS,
    alternative: required ALTERNATIVE_SMF_IP_ADDRESS,
});

/// The sets that one session belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionSets {
    /// Parts of the nodes that serve it.
    pub csids: Vec<FqCsid>,
    /// The group of control plane functions.
    pub group: Option<GroupId>,
}

part!(SessionSets {
    csids: list FQ_CSID,
    group: optional GROUP_ID,
});

impl SessionSets {
    /// Whether nothing is stated.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.csids.is_empty() && self.group.is_none()
    }

    /// Takes in what a modification states: each part of a node replaces those of the same kind of
    /// node, and a group replaces the group.
    #[must_use]
    pub fn changed(&self, stated: &Self) -> Self {
        let stays = |known: &&FqCsid| stated.csids.iter().all(|new| new.kind != known.kind);
        let mut csids: Vec<FqCsid> = self.csids.iter().filter(stays).cloned().collect();
        csids.extend(stated.csids.iter().cloned());
        Self {
            csids,
            group: stated.group.clone().or_else(|| self.group.clone()),
        }
    }

    /// Whether the session belongs to one of `sets`: the same node and one part in common. The kind
    /// of the node says nothing that its address does not.
    #[must_use]
    pub fn is_in(&self, sets: &[FqCsid]) -> bool {
        self.csids.iter().any(|own| {
            sets.iter().any(|set| {
                set.node == own.node && set.csids.iter().any(|csid| own.csids.contains(csid))
            })
        })
    }
}

/// A group of control plane functions, 1 to 255 octets. Source: TS 29.244 §7.4.7.1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub Vec<u8>);

/// Addresses of a control plane function, at least one. Source: TS 29.244 §7.4.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpAddress {
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl CpAddress {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4 == Some(address),
            IpAddr::V6(address) => self.v6 == Some(address),
        }
    }

    fn read_behind(flags: u8, octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let address = Self {
            v4: octets.when(flags & 0x02, Octets::v4)?,
            v6: octets.when(flags & 0x01, Octets::v6)?,
        };
        match address {
            Self { v4: None, v6: None } => Err(Fault::Incorrect),
            address => Ok(address),
        }
    }

    fn write_with(&self, flags: u8, out: &mut Writer) {
        if self.v4.is_none() && self.v6.is_none() {
            out.fail();
        }
        out.u8(flags | flag(1, self.v6.is_some()) | flag(2, self.v4.is_some()));
        out.v4(self.v4);
        out.v6(self.v6);
    }
}

impl Value for CpAddress {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        Self::read_behind(flags, octets)
    }
    fn write(&self, out: &mut Writer) {
        self.write_with(0, out);
    }
}

/// The control plane function that takes sessions over. Source: TS 29.244 §7.4.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlternativeSmf {
    /// Where it is.
    pub address: CpAddress,
    /// Whether it is the entity that the sender prefers (PPE).
    pub preferred: bool,
}

impl Value for AlternativeSmf {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        Ok(Self {
            address: CpAddress::read_behind(flags, octets)?,
            preferred: flags & 0x04 != 0,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.address.write_with(flag(3, self.preferred), out);
    }
}

/// Parts of a node that fail together. Source: TS 29.244 §8.2.43.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FqCsid {
    /// The node.
    pub node: CsidNode,
    /// Its parts, 1 to 15.
    pub csids: Vec<u16>,
    /// What the node is (an MME, a gateway ...).
    pub kind: Option<u8>,
}

/// The node of an [`FqCsid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CsidNode {
    /// IPv4 address.
    V4(Ipv4Addr),
    /// IPv6 address.
    V6(Ipv6Addr),
    /// Country, network and node in 32 bits.
    Other([u8; 4]),
}

impl Value for FqCsid {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let head = octets.u8()?;
        let node = match head >> 4 {
            0 => CsidNode::V4(octets.v4()?),
            1 => CsidNode::V6(octets.v6()?),
            2 => CsidNode::Other(octets.array()?),
            _ => return Err(Fault::Incorrect),
        };
        let count = head & 0x0f;
        if count == 0 {
            return Err(Fault::Incorrect);
        }
        let csids = (0..count).map(|_| octets.u16()).collect::<Result<_, _>>()?;
        Ok(Self {
            node,
            csids,
            kind: octets.u8().ok().map(|kind| kind & 0x0f),
        })
    }
    fn write(&self, out: &mut Writer) {
        let count = match u8::try_from(self.csids.len()) {
            Ok(count @ 1..=15) => count,
            _ => return out.fail(),
        };
        match &self.node {
            CsidNode::V4(address) => {
                out.u8(count);
                out.bytes(&address.octets());
            }
            CsidNode::V6(address) => {
                out.u8(0x10 | count);
                out.bytes(&address.octets());
            }
            CsidNode::Other(node) => {
                out.u8(0x20 | count);
                out.bytes(node);
            }
        }
        for csid in &self.csids {
            out.u16(*csid);
        }
        if let Some(kind) = self.kind {
            if kind > 15 {
                out.fail();
            }
            out.u8(kind);
        }
    }
}
