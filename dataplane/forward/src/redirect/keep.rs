//! What outlives the process of a redirected flow.
//!
//! ```text
//! word 0     protocol + 1 (low byte); 0: the place is free
//! word 1     the owner
//! words 2-7  subscriber, asked, destination: 16 bytes each, IPv4 as IPv4-mapped
//! word 8     ports: subscriber's | subscriber's outside | asked | destination's
//! ```

use std::net::{IpAddr, Ipv6Addr};

use super::flow::FlowId;
use super::table::FlowState;
use crate::index::address_bytes;
use crate::nat::NatProtocol;

/// Words of a flow.
pub const FLOW_WORDS: usize = 9;

/// Who remembers flows over a restart.
pub trait Keep {
    /// Place `place` holds this flow now, or none.
    fn keep(&mut self, place: u32, flow: Option<&FlowState>);
}

/// Nobody does.
impl Keep for () {
    fn keep(&mut self, _: u32, _: Option<&FlowState>) {}
}

impl FlowState {
    /// As words.
    #[must_use]
    pub fn to_words(&self) -> [u64; FLOW_WORDS] {
        let protocol = u64::from(self.flow.protocol.octet()).saturating_add(1);
        let [own, asked, to] = [self.flow.own.0, self.flow.remote.0, self.to.0].map(halves);
        let ports = [
            self.flow.own.1,
            self.own_port,
            self.flow.remote.1,
            self.to.1,
        ];
        let ports = ports
            .into_iter()
            .fold(0, |word: u64, port| word << 16 | u64::from(port));
        [
            protocol,
            self.owner.into(),
            own[0],
            own[1],
            asked[0],
            asked[1],
            to[0],
            to[1],
            ports,
        ]
    }

    /// Inverse of [`Self::to_words`]; `None` when no flow says so.
    #[must_use]
    pub fn from_words(words: &[u64; FLOW_WORDS]) -> Option<Self> {
        let [protocol, owner, a, b, c, d, e, f, ports] = *words;
        let protocol = [NatProtocol::Tcp, NatProtocol::Udp, NatProtocol::Icmp]
            .into_iter()
            .find(|of| u64::from(of.octet()).saturating_add(1) == protocol)?;
        let [own, own_port, asked, to] = ports_of(ports);
        let (address, remote, target) = (address(a, b), address(c, d), address(e, f));
        let alike = address.is_ipv4() == remote.is_ipv4() && remote.is_ipv4() == target.is_ipv4();
        alike.then_some(Self {
            owner: u32::try_from(owner).ok()?,
            flow: FlowId {
                protocol,
                own: (address, own),
                remote: (remote, asked),
            },
            to: (target, to),
            own_port,
        })
    }
}

const fn ports_of(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    [
        u16::from_be_bytes([a, b]),
        u16::from_be_bytes([c, d]),
        u16::from_be_bytes([e, f]),
        u16::from_be_bytes([g, h]),
    ]
}

fn halves(address: IpAddr) -> [u64; 2] {
    let whole = u128::from_be_bytes(address_bytes(address)).to_be_bytes();
    let (high, low) = whole.split_at(8);
    [high, low].map(|half| {
        half.iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    })
}

fn address(high: u64, low: u64) -> IpAddr {
    let whole = u128::from(high) << 64 | u128::from(low);
    IpAddr::V6(Ipv6Addr::from(whole)).to_canonical()
}
