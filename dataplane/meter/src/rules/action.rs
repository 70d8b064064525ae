//! What a compiled rule does to a packet.

use std::net::{IpAddr, SocketAddr};

use qlink_pfcp::model::{
    ApplyAction, BarId, Far, Forwarding, Interface, OuterHeaderCreation, Qfi, Redirect,
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
    /// To another destination address.
    RedirectAddress(IpAddr),
    /// Answered by an HTTP redirection to this place of [`super::RuleBlock::redirect_url`].
    RedirectUrl(u16),
}

/// What happens to a packet of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Thrown away.
    Drop,
    /// Sent on.
    Forward {
        /// Where to.
        to: Out,
        /// A copy goes to the control plane as well.
        duplicate: bool,
    },
    /// Kept.
    Buffer {
        /// The control plane is told of the first packet.
        notify: bool,
        /// How it is kept.
        bar: Option<BarId>,
    },
}

impl Action {
    /// What `far` does, `qfi` being the mark of the rule's `QoS`; URLs are appended to `urls`.
    /// `None` when it forwards without saying where to.
    pub(super) fn compile(far: &Far, qfi: Option<Qfi>, urls: &mut Vec<String>) -> Option<Self> {
        Some(match far.action {
            ApplyAction::Drop => Self::Drop,
            ApplyAction::Buffer { notify } => Self::Buffer {
                notify,
                bar: far.bar,
            },
            ApplyAction::Forward { duplicate } => Self::Forward {
                to: out(far.forwarding.as_ref()?, qfi, urls)?,
                duplicate,
            },
        })
    }
}

fn out(forwarding: &Forwarding, qfi: Option<Qfi>, urls: &mut Vec<String>) -> Option<Out> {
    match &forwarding.redirect {
        Some(Redirect::Address(address)) => return Some(Out::RedirectAddress(*address)),
        Some(Redirect::Url(url)) => {
            let place = u16::try_from(urls.len()).ok()?;
            urls.push(url.clone());
            return Some(Out::RedirectUrl(place));
        }
        None => {}
    }
    match forwarding.outer {
        Some(OuterHeaderCreation::Gtpu { teid, v4, v6 }) => {
            let address = v4.map(IpAddr::V4).or_else(|| v6.map(IpAddr::V6))?;
            Some(Out::Tunnel {
                teid,
                peer: SocketAddr::new(address, GTPU_PORT),
                qfi,
                marking: forwarding.transport_marking,
            })
        }
        Some(OuterHeaderCreation::Udp { to, port }) => Some(Out::Udp {
            to: SocketAddr::new(to, port),
        }),
        None => match forwarding.destination {
            Interface::Core | Interface::SgiLan => Some(Out::N6),
            Interface::ControlPlane => Some(Out::ControlPlane),
            Interface::Access => None,
        },
    }
}
