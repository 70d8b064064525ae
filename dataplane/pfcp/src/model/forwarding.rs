//! What happens to a detected packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_types::ids::Teid;

use super::ids::{BarId, FarId};
use super::packet::{Interface, NetworkInstance};

/// What is done with a packet; exactly one of drop, forward and buffer holds.
///
/// Source: TS 29.244 §8.2.26.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApplyAction {
    /// Thrown away.
    Drop {
        /// Copies are made, as [`Far::duplicating`] says.
        duplicate: bool,
    },
    /// Sent on.
    Forward {
        /// Copies are made, as [`Far::duplicating`] says.
        duplicate: bool,
    },
    /// Kept until the rule says otherwise.
    Buffer {
        /// The control plane is told of the first packet.
        notify: bool,
        /// Copies are made, as [`Far::duplicating`] says.
        duplicate: bool,
    },
}

impl ApplyAction {
    /// Whether copies are made.
    #[must_use]
    pub const fn duplicates(self) -> bool {
        let (Self::Drop { duplicate }
        | Self::Forward { duplicate }
        | Self::Buffer { duplicate, .. }) = self;
        duplicate
    }
}

/// The tunnel that is put around a packet. Source: TS 29.244 §8.2.56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OuterHeaderCreation {
    /// GTP-U over UDP.
    Gtpu {
        /// The peer's endpoint; never 0.
        teid: Teid,
        /// The peer's IPv4 address.
        v4: Option<Ipv4Addr>,
        /// The peer's IPv6 address.
        v6: Option<Ipv6Addr>,
    },
    /// UDP alone.
    Udp {
        /// The peer.
        to: IpAddr,
        /// Its port.
        port: u16,
    },
}

/// Another destination of redirected packets; at least one part is stated.
///
/// Source: TS 29.244 §8.2.20, types 0, 1 and 4 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Destination {
    /// Where IPv4 packets go.
    pub v4: Option<Ipv4Addr>,
    /// Where IPv6 packets go.
    pub v6: Option<Ipv6Addr>,
    /// The port of a TCP segment or UDP datagram; absent: its own.
    pub port: Option<u16>,
}

impl Destination {
    /// Where a packet to `asked` goes; `None` when its version is not redirected.
    #[must_use]
    pub fn of(&self, (asked, port): (IpAddr, u16)) -> Option<(IpAddr, u16)> {
        let address = match (asked, self.v4, self.v6) {
            (IpAddr::V4(_), Some(address), _) => IpAddr::V4(address),
            (IpAddr::V6(_), _, Some(address)) => IpAddr::V6(address),
            // A port alone leaves the address as it is.
            (_, None, None) => asked,
            (IpAddr::V4(_), None, Some(_)) | (IpAddr::V6(_), Some(_), None) => return None,
        };
        Some((address, self.port.unwrap_or(port)))
    }

    /// The addresses that are stated.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// Where traffic is redirected to. Source: TS 29.244 §8.2.20.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Redirect {
    /// Another destination.
    To(Destination),
    /// Answered by an HTTP redirection to this address.
    Url(String),
}

/// Parameters of forwarding. Source: TS 29.244 §7.5.2.3, table 7.5.2.3-2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forwarding {
    /// Where to.
    pub destination: Interface,
    /// Network instance.
    pub network_instance: Option<NetworkInstance>,
    /// Tunnel around the packet.
    pub outer: Option<OuterHeaderCreation>,
    /// Redirection.
    pub redirect: Option<Redirect>,
    /// Differentiated services value of the outer header: value and mask.
    pub transport_marking: Option<(u8, u8)>,
}

/// Where copies of packets go. Source: TS 29.244 §7.5.2.3, table 7.5.2.3-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Duplication {
    /// Where to.
    pub destination: Interface,
    /// Tunnel around the copy.
    pub outer: Option<OuterHeaderCreation>,
    /// Differentiated services value of the outer header: value and mask.
    pub transport_marking: Option<(u8, u8)>,
}

/// What a modification changes in a [`Duplication`]; absent parts stay.
///
/// Source: TS 29.244 §7.5.4.3, table 7.5.4.3-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Duplication")]
pub struct DuplicationChanges {
    pub destination: Option<Interface>,
    pub outer: Option<OuterHeaderCreation>,
    pub transport_marking: Option<(u8, u8)>,
}

/// A forwarding action rule. Source: TS 29.244 §7.5.2.3.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Far {
    /// Its id in the session.
    pub id: FarId,
    /// What is done.
    pub action: ApplyAction,
    /// How, when forwarding; kept while buffering or dropping.
    pub forwarding: Option<Forwarding>,
    /// Where copies go, when the action makes any; kept while it makes none.
    pub duplicating: Vec<Duplication>,
    /// How to buffer.
    pub bar: Option<BarId>,
}

/// What a modification changes in a [`Far`]; absent parts stay.
///
/// Source: TS 29.244 §7.5.4.3.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Far and Forwarding")]
pub struct FarChanges {
    pub id: FarId,
    pub action: Option<ApplyAction>,
    pub destination: Option<Interface>,
    pub network_instance: Option<NetworkInstance>,
    pub outer: Option<OuterHeaderCreation>,
    pub redirect: Option<Redirect>,
    pub transport_marking: Option<(u8, u8)>,
    /// The first changes the first [`Duplication`], and so on; further ones are added. They have no
    /// names by which they could be told apart otherwise.
    pub duplicating: Vec<DuplicationChanges>,
    pub bar: Option<BarId>,
    /// An end marker goes to the old tunnel. Source: TS 29.244 §5.2.3.2, flag SNDEM.
    pub send_end_marker: bool,
}

/// How packets are kept. Source: TS 29.244 §8.2.28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Buffering {
    /// Most packets that the control plane suggests to keep.
    pub packets: Option<u8>,
    /// How long the notification waits, in milliseconds, a multiple of 50.
    pub notification_delay_ms: Option<u32>,
}

/// A buffering action rule. Source: TS 29.244 §7.5.2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bar {
    /// Its id in the session.
    pub id: BarId,
    /// How.
    pub buffering: Buffering,
}

/// What a modification changes in a [`Bar`]; absent parts stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Bar")]
pub struct BarChanges {
    pub id: BarId,
    pub buffering: Buffering,
}
