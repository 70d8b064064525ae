//! What a compiled rule does to a packet.

use std::net::{IpAddr, SocketAddr};

use qlink_pfcp::model::{
    ApplyAction, BarId, Destination, Far, Forwarding, Interface, OuterHeaderCreation, Qfi, Redirect,
};
use qlink_types::ids::Teid;
use qlink_wire::GTPU_PORT;

/// Where a forwarded packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Out {
    /// As a plain inner packet towards the network.
    N6,
    /// As a plain inner packet to the control plane function.
    ControlPlane,
    /// In a GTP-U tunnel.
    Tunnel {
        /// The peer's endpoint.
        teid: Teid,
        /// The peer's address, port 2152.
        peer: SocketAddr,
        /// QFI of the PDU session container; `None`: the packet has none.
        qfi: Option<Qfi>,
        /// Differentiated services of the outer header: value and mask.
        marking: Option<(u8, u8)>,
    },
    /// Behind a UDP header alone.
    Udp {
        /// The peer.
        to: SocketAddr,
    },
    /// Answered by an HTTP redirection to this place of [`super::RuleBlock::redirect_url`].
    RedirectUrl(u16),
}

/// What happens to a packet of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Thrown away.
    Drop {
        /// Where copies go.
        copies: Option<CopiesAt>,
    },
    /// Sent on.
    Forward {
        /// Where to.
        to: Out,
        /// Under which other destination.
        redirect: Option<RedirectAt>,
        /// Where copies go.
        copies: Option<CopiesAt>,
    },
    /// Kept.
    Buffer {
        /// The control plane is told of the first packet.
        notify: bool,
        /// How it is kept.
        bar: Option<BarId>,
    },
}

/// A place of [`super::RuleBlock::redirect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RedirectAt(pub(super) u16);

/// A place of [`super::RuleBlock::copies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CopiesAt(pub(super) u16);

/// What actions refer to, as far as it is found.
#[derive(Debug, Default)]
pub(super) struct Referred {
    pub(super) urls: Vec<String>,
    pub(super) redirects: Vec<Destination>,
    pub(super) copies: Vec<Box<[Out]>>,
}

impl Referred {
    fn url(&mut self, url: &str) -> Option<u16> {
        let place = u16::try_from(self.urls.len()).ok()?;
        self.urls.push(url.to_owned());
        Some(place)
    }

    fn redirect(&mut self, to: Destination) -> Option<RedirectAt> {
        let place = u16::try_from(self.redirects.len()).ok()?;
        self.redirects.push(to);
        Some(RedirectAt(place))
    }

    /// Where the copies of `far` go; `Some(None)`: it makes none.
    fn copies(&mut self, far: &Far) -> Option<Option<CopiesAt>> {
        if !far.action.duplicates() {
            return Some(None);
        }
        let tunnels = far.duplicating.iter();
        let tunnels: Option<Box<[Out]>> = tunnels
            .map(|copy| tunnel(copy.outer?, None, copy.transport_marking))
            .collect();
        let place = u16::try_from(self.copies.len()).ok()?;
        self.copies.push(tunnels?);
        Some(Some(CopiesAt(place)))
    }
}

impl Action {
    /// What `far` does, `qfi` being the mark of the rule's `QoS`; what it refers to is appended to
    /// `referred`. `None` when it forwards or copies without saying where to.
    pub(super) fn compile(far: &Far, qfi: Option<Qfi>, referred: &mut Referred) -> Option<Self> {
        let copies = referred.copies(far)?;
        Some(match far.action {
            ApplyAction::Drop { .. } => Self::Drop { copies },
            ApplyAction::Buffer { notify, .. } => Self::Buffer {
                notify,
                bar: far.bar,
            },
            ApplyAction::Forward { .. } => {
                let forwarding = far.forwarding.as_ref()?;
                let (to, redirect) = match &forwarding.redirect {
                    Some(Redirect::Url(url)) => (Out::RedirectUrl(referred.url(url)?), None),
                    Some(Redirect::To(to)) => {
                        (out(forwarding, qfi)?, Some(referred.redirect(*to)?))
                    }
                    None => (out(forwarding, qfi)?, None),
                };
                Self::Forward {
                    to,
                    redirect,
                    copies,
                }
            }
        })
    }
}

/// A GTP-U tunnel; `None` for any other outer header.
fn tunnel(outer: OuterHeaderCreation, qfi: Option<Qfi>, marking: Option<(u8, u8)>) -> Option<Out> {
    let OuterHeaderCreation::Gtpu { teid, v4, v6 } = outer else {
        return None;
    };
    let address = v4.map(IpAddr::V4).or_else(|| v6.map(IpAddr::V6))?;
    Some(Out::Tunnel {
        teid,
        peer: SocketAddr::new(address, GTPU_PORT),
        qfi,
        marking,
    })
}

fn out(forwarding: &Forwarding, qfi: Option<Qfi>) -> Option<Out> {
    match forwarding.outer {
        Some(outer @ OuterHeaderCreation::Gtpu { .. }) => {
            tunnel(outer, qfi, forwarding.transport_marking)
        }
        Some(OuterHeaderCreation::Udp { to, port }) => Some(Out::Udp {
            to: SocketAddr::new(to, port),
        }),
        None => match forwarding.destination {
            Interface::Core | Interface::SgiLan => Some(Out::N6),
            Interface::ControlPlane => Some(Out::ControlPlane),
            Interface::Access | Interface::LiFunction => None,
        },
    }
}
