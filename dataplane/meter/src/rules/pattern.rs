//! Packets as keys, rules as patterns over them.
//!
//! ```text
//! word 0, 1  remote address (IPv4 in the upper 32 bits)     word 4  teid | protocol | tos | interface | family
//! word 2, 3  subscriber's address                           word 5  spi | remote port | local port
//!                                                           word 6  flow label
//! ```

use std::net::IpAddr;

use qlink_pfcp::model::{Interface, Qfi};
use qlink_types::ids::Teid;

use crate::direction::Direction;

/// Words of a key.
pub(super) const KEY_WORDS: usize = 7;

/// Words in front of the subscriber's address.
const LOCAL: usize = 2;

/// What rules look at in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketMeta {
    /// Where it came from.
    pub source: Interface,
    /// The tunnel endpoint it came to.
    pub teid: Option<Teid>,
    /// Source address of the inner packet.
    pub src: IpAddr,
    /// Destination address of the inner packet.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub src_port: u16,
    /// Destination port; 0 where there is none.
    pub dst_port: u16,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IPv6 flow label; 0 for IPv4.
    pub flow_label: u32,
    /// Security parameter index of IPsec; 0 where there is none.
    pub spi: u32,
    /// QFI of the PDU session container.
    pub qfi: Option<Qfi>,
}

/// Which end of a packet an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server's.
    Remote,
    /// The subscriber's.
    Local,
}

/// A packet as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) words: [u64; KEY_WORDS],
    qfi: Option<Qfi>,
    remote_port: u16,
    local_port: u16,
}

impl Key {
    /// Filters are written for packets to the subscriber, so that of a packet from it the ends are
    /// swapped.
    ///
    /// Source: TS 29.244 §8.2.5, TS 29.212 §5.4.2.
    #[inline]
    pub(super) fn of(meta: &PacketMeta) -> Self {
        let (remote, local, remote_port, local_port) = match Direction::from_source(meta.source) {
            Direction::Uplink => (&meta.dst, &meta.src, meta.dst_port, meta.src_port),
            Direction::Downlink => (&meta.src, &meta.dst, meta.src_port, meta.dst_port),
        };
        let (r0, r1) = halves(remote);
        let (l0, l1) = halves(local);
        let teid = u64::from(meta.teid.map_or(0, Teid::get));
        let ports = u64::from(remote_port) << 16 | u64::from(local_port);
        let head = u64::from(meta.protocol) << 24 | u64::from(meta.tos) << 16;
        Self {
            words: [
                r0,
                r1,
                l0,
                l1,
                teid << 32 | head | interface_bits(meta.source) << 8 | family_bits(remote),
                u64::from(meta.spi) << 32 | ports,
                u64::from(meta.flow_label),
            ],
            qfi: meta.qfi,
            remote_port,
            local_port,
        }
    }
}

const fn family_bits(address: &IpAddr) -> u64 {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

const fn interface_bits(interface: Interface) -> u64 {
    match interface {
        Interface::Access => 1,
        Interface::Core => 2,
        Interface::SgiLan => 3,
        Interface::ControlPlane => 4,
        Interface::LiFunction => 5,
    }
}

#[inline]
fn halves(address: &IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(v4) => (u64::from(v4.to_bits()) << 32, 0),
        IpAddr::V6(v6) => split(v6.to_bits()),
    }
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of 128 bits"
)]
const fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

/// Ports of one end that a pattern accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct PortSet(Box<[(u16, u16)]>);

impl PortSet {
    /// Accepts from now on what is in `ranges` as well; `false` when nothing is left.
    fn restrict(&mut self, ranges: &[(u16, u16)]) -> bool {
        if self.0.is_empty() {
            self.0 = ranges.into();
            return true;
        }
        let pairs = self
            .0
            .iter()
            .flat_map(|own| ranges.iter().map(move |other| (own, other)));
        self.0 = pairs
            .map(|(own, other)| (own.0.max(other.0), own.1.min(other.1)))
            .filter(|(low, high)| low <= high)
            .collect();
        !self.0.is_empty()
    }

    #[inline]
    fn has(&self, port: u16) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&port))
    }
}

/// One conjunction of conditions of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) mask: [u64; KEY_WORDS],
    pub(super) value: [u64; KEY_WORDS],
    /// Bit set of accepted QFIs; 0: any.
    qfis: u64,
    remote_ports: PortSet,
    local_ports: PortSet,
    /// Place of its rule; lower is better.
    pub(super) rank: u16,
}

impl Pattern {
    /// Matches every packet from `source`.
    pub(super) fn new(source: Interface, rank: u16) -> Self {
        let mut pattern = Self {
            mask: [0; KEY_WORDS],
            value: [0; KEY_WORDS],
            qfis: 0,
            remote_ports: PortSet::default(),
            local_ports: PortSet::default(),
            rank,
        };
        let bits = interface_bits(source);
        pattern.require(4, 0xff00, bits << 8);
        pattern
    }

    /// Adds the condition that the bits `mask` of a word equal those of `value`; `false` when it
    /// contradicts what is required already.
    fn require(&mut self, word: usize, mask: u64, value: u64) -> bool {
        let (Some(own_mask), Some(own_value)) = (self.mask.get_mut(word), self.value.get_mut(word))
        else {
            return false;
        };
        if (*own_value ^ value) & *own_mask & mask != 0 {
            return false;
        }
        *own_mask |= mask;
        *own_value |= value & mask;
        true
    }

    pub(super) fn require_teid(&mut self, teid: Teid) -> bool {
        self.require(4, 0xffff_ffff << 32, u64::from(teid.get()) << 32)
    }

    pub(super) fn require_protocol(&mut self, protocol: u8) -> bool {
        self.require(4, 0xff << 24, u64::from(protocol) << 24)
    }

    pub(super) fn require_tos(&mut self, (value, mask): (u8, u8)) -> bool {
        self.require(4, u64::from(mask) << 16, u64::from(value) << 16)
    }

    pub(super) fn require_spi(&mut self, spi: u32) -> bool {
        self.require(5, 0xffff_ffff << 32, u64::from(spi) << 32)
    }

    pub(super) fn require_flow_label(&mut self, label: u32) -> bool {
        self.require(6, 0xf_ffff, u64::from(label))
    }

    pub(super) fn require_address(&mut self, end: End, address: IpAddr, bits: u8) -> bool {
        let (width, shift) = match address {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        let bits = u32::from(bits).min(width);
        let low = width.saturating_sub(bits);
        let mask = if bits == 0 {
            0
        } else {
            u128::MAX << low << shift
        };
        let (m0, m1) = split(mask);
        let (v0, v1) = halves(&address);
        let word = match end {
            End::Remote => 0,
            End::Local => LOCAL,
        };
        self.require(word, m0, v0)
            && self.require(word.saturating_add(1), m1, v1)
            && self.require(4, 0xff, family_bits(&address))
    }

    /// One port is part of the mask; several, or a range, are looked at afterwards.
    pub(super) fn require_ports(&mut self, end: End, ranges: &[(u16, u16)]) -> bool {
        let shift = match end {
            End::Remote => 16,
            End::Local => 0,
        };
        match ranges {
            [] => true,
            [(low, high)] if low == high => {
                self.require(5, 0xffff << shift, u64::from(*low) << shift)
            }
            ranges => {
                let set = match end {
                    End::Remote => &mut self.remote_ports,
                    End::Local => &mut self.local_ports,
                };
                set.restrict(ranges)
            }
        }
    }

    /// Accepts these QFIs only; an empty list accepts any.
    pub(super) fn require_qfis(&mut self, qfis: &[Qfi]) {
        self.qfis = qfis
            .iter()
            .filter(|qfi| qfi.get() < 64)
            .fold(0, |set, qfi| set | 1 << qfi.get());
    }

    #[inline]
    pub(super) fn matches(&self, key: &Key) -> bool {
        let mut difference = 0;
        for ((word, mask), value) in key.words.iter().zip(&self.mask).zip(&self.value) {
            difference |= (word & mask) ^ value;
        }
        difference == 0 && self.accepts(key)
    }

    /// Whether what masks cannot say holds as well.
    #[inline]
    pub(super) fn accepts(&self, key: &Key) -> bool {
        (self.qfis == 0
            || key
                .qfi
                .is_some_and(|qfi| self.qfis >> (qfi.get() & 63) & 1 == 1))
            && self.remote_ports.has(key.remote_port)
            && self.local_ports.has(key.local_port)
    }
}
