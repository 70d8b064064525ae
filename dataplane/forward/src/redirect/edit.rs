//! The edit of a redirected packet.

use std::net::IpAddr;

use super::flow::{Asked, FlowId};
use crate::Rewrite;
use crate::checksum::ChecksumDelta;
use crate::nat::NatProtocol;
use crate::nat44::{AddressChange, edit, set_address};
use crate::rewrite::Header;
use crate::transport::{self, Content, End, FlowHead, ICMP_HEADER, IcmpBefore, Quoted};

/// Other ends for a packet: of the flow's remote end address and port, of the subscriber's its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readdress {
    /// Where the remote end stands in the packet; in one that an ICMP error quotes at the other
    /// place.
    pub(super) end: End,
    /// The remote end until now; an ICMP error that comes from elsewhere keeps its own address.
    pub(super) before: IpAddr,
    /// The remote end from now on.
    pub(super) remote: Asked,
    /// The subscriber's port from now on.
    pub(super) own_port: u16,
}

/// The packet has no header that can be read whole; it must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet's headers cannot be read whole")]
pub struct ReaddressError;

impl Readdress {
    /// The flow's remote end from now on.
    #[must_use]
    pub const fn remote(&self) -> Asked {
        self.remote
    }

    /// The subscriber's port from now on.
    #[must_use]
    pub const fn own_port(&self) -> u16 {
        self.own_port
    }

    /// The address that a packet from (or to) `address` has from now on.
    #[must_use]
    pub fn shown(&self, address: IpAddr) -> IpAddr {
        if address == self.before {
            self.remote.0
        } else {
            address
        }
    }

    /// Whether it leaves a packet of `flow` as it is.
    #[must_use]
    pub fn is_nothing_to(&self, flow: &FlowId) -> bool {
        self.remote == flow.remote && self.own_port == flow.own.1
    }

    /// Edits a loaded packet; its checksums stay as right or wrong as they were.
    ///
    /// # Errors
    ///
    /// [`ReaddressError`].
    pub fn apply(&self, rewrite: &mut Rewrite) -> Result<(), ReaddressError> {
        self.edit(rewrite).ok_or(ReaddressError)
    }

    fn edit(&self, rewrite: &mut Rewrite) -> Option<()> {
        let header = rewrite.header(0)?;
        match transport::read(rewrite, &header).ok()? {
            Content::Flow(flow) => {
                let change = set_address(rewrite, 0, self.end, self.remote.0)?;
                self.ports(rewrite, &flow, (self.end, header.len), change)
            }
            Content::Later(_) => set_address(rewrite, 0, self.end, self.remote.0).map(drop),
            Content::Error(quoted) => self.error(rewrite, &header, &quoted),
        }
    }

    /// Ports behind a change of the remote end's address.
    fn ports(
        &self,
        rewrite: &mut Rewrite,
        flow: &FlowHead,
        (end, at): (End, usize),
        change: AddressChange,
    ) -> Option<()> {
        let own = edit(flow.protocol, opposite(end), self.own_port, change);
        own.apply(rewrite, at)?;
        match flow.protocol {
            // An identifier is the subscriber's alone.
            NatProtocol::Icmp => Some(()),
            NatProtocol::Tcp | NatProtocol::Udp => {
                let unchanged = AddressChange::default();
                edit(flow.protocol, end, self.remote.1, unchanged).apply(rewrite, at)
            }
        }
    }

    fn error(&self, rewrite: &mut Rewrite, header: &Header, quoted: &Quoted) -> Option<()> {
        let before = IcmpBefore::note(rewrite, header.len)?;
        let from = match self.end {
            End::Source => header.src,
            End::Destination => header.dst,
        };
        let outer = if from == self.before {
            set_address(rewrite, 0, self.end, self.remote.0)?.1
        } else {
            ChecksumDelta::default()
        };
        let other = opposite(self.end);
        let change = set_address(rewrite, quoted.at, other, self.remote.0)?;
        let at = header
            .len
            .checked_add(ICMP_HEADER)?
            .checked_add(quoted.header.len)?;
        self.ports(rewrite, &quoted.flow, (other, at), change)?;
        before.settle(rewrite, header.len, outer)
    }
}

const fn opposite(end: End) -> End {
    match end {
        End::Source => End::Destination,
        End::Destination => End::Source,
    }
}
