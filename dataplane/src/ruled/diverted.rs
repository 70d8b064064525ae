//! Flows that leave for another destination than they asked for, and come back as if they had not.
//!
//! ```text
//! N3 -> rules, proof, counters (what was asked for) -> other destination -> NAT, MTU -> send
//! N6 -> NAT back -> what was asked for -> rules, proof, counters         -> MTU      -> send
//! ```
//!
//! [`qlink_forward::redirect`] decides and edits; here is the table of one worker and what stands of
//! it in a file, so that open connections outlive the process.
//!
//! **Invariants**: rules see both directions of a flow under the destination that was asked for, so
//! its bytes are counted where they would be without; a packet goes to no destination to which its
//! subscriber may not send itself.
//!
//! Source: TS 29.244 §5.2.3.1 and §8.2.20.

use std::net::{IpAddr, SocketAddr};

use qlink_forward::Rewrite;
use qlink_forward::nat::{NatProtocol, Timeouts};
use qlink_forward::redirect::{
    FlowId, FlowState, Message, Readdress, RedirectLimits, RedirectRefusal, Redirects,
};
use qlink_io::{BURST_MAX, Outgoing, PacketSink};
use qlink_meter::{DropReason, PacketMeta, RedirectAt, RuleBlock, SessionSlot};
use qlink_pfcp::{MAX_REDIRECT_ROWS, RedirectRow};
use qlink_types::codec::List;
use qlink_wire::protocol;

use super::kept_flows::KeptFlows;
use crate::forwarding::HeadPlace;
use crate::parse::{Inner, Transport};
use crate::pipeline::{Planned, Ports, Sent, Side, mark_accepted};
use crate::plane::Plane;

/// Most redirected flows of a worker (chosen: 32 subscribers with a full share; 4 MB).
pub(crate) const FLOWS_MAX: u32 = 16_384;

/// Most of one subscriber (chosen: a phone has some dozens of connections).
const SESSION_FLOWS_MAX: u32 = 512;

/// Flows that are looked at per burst for whether their time is over.
const SWEEP: u32 = 8;

/// Redirected flows of a session, as they are told.
pub(crate) type RedirectRows = List<RedirectRow, MAX_REDIRECT_ROWS>;

/// Redirected flows of a worker.
#[derive(Debug)]
pub(crate) struct Diverted {
    table: Redirects,
    pub(super) kept: KeptFlows,
    /// The packet in work.
    rewrite: Rewrite,
    /// Heads of what is sent next.
    heads: Box<[HeadPlace]>,
}

impl Diverted {
    fn new(sessions: u32, secret: u64, kept: KeptFlows) -> Self {
        Self {
            table: Redirects::new(RedirectLimits {
                flows: FLOWS_MAX,
                owners: sessions,
                flows_per_owner: SESSION_FLOWS_MAX,
                timeouts: Timeouts::default(),
                secret,
            }),
            kept,
            rewrite: Rewrite::new(),
            heads: vec![HeadPlace::EMPTY; BURST_MAX].into_boxed_slice(),
        }
    }
}

/// A packet whose remote end is another one for its rules than on the wire.
pub(super) struct Turned<'a> {
    pub(super) inner: Inner<'a>,
    pub(super) edit: Readdress,
}

impl Plane {
    /// Takes the memory for redirected flows once a rule needs it.
    pub(super) fn prepare_redirects(&mut self, block: &RuleBlock) {
        if block.redirects().is_empty() || self.ruled.diverted.is_some() {
            return;
        }
        let sessions = u32::try_from(self.sponsored.len()).unwrap_or(u32::MAX);
        let kept = std::mem::take(&mut self.ruled.kept_flows);
        let secret = qlink_meter::process_secret();
        self.ruled.diverted = Some(Box::new(Diverted::new(sessions, secret, kept)));
    }

    /// Flows of a session that stood when the process before this one ended.
    pub(super) fn restore_redirects(&mut self, slot: SessionSlot, now_ns: u64) {
        let Some(seid) = self.ruled.get(slot).map(|ruled| ruled.seid) else {
            return;
        };
        if let Some(diverted) = &mut self.ruled.diverted {
            for (place, flow) in diverted.kept.take_standing(slot.get(), seid) {
                diverted.table.restore(place, &flow, now_ns);
            }
        }
    }

    /// Forgets the redirected flows of a session.
    pub(super) fn close_redirects(&mut self, slot: SessionSlot) {
        if let Some(diverted) = &mut self.ruled.diverted {
            diverted.table.close(slot.get(), &mut diverted.kept);
        }
    }

    /// Forgets flows whose time is over.
    pub(super) fn sweep_redirects(&mut self, now_ns: u64) {
        if let Some(diverted) = &mut self.ruled.diverted {
            diverted.table.sweep(SWEEP, now_ns, &mut diverted.kept);
        }
    }

    /// The redirected flows of a session, as many as are told.
    pub(crate) fn redirect_rows(&self, slot: SessionSlot) -> RedirectRows {
        let Some(diverted) = &self.ruled.diverted else {
            return RedirectRows::default();
        };
        let flows = diverted.table.of(slot.get());
        // One that asked for where it goes has no row.
        let elsewhere = flows.filter(|flow| flow.to != flow.flow.remote);
        let rows = elsewhere.take(MAX_REDIRECT_ROWS).map(row).collect();
        Vec::try_into(rows).unwrap_or_default()
    }

    /// What a packet to a subscriber is to the rules when it is of a redirected flow; `meta` is
    /// changed with it.
    #[inline(never)]
    pub(super) fn turn_back<'a>(
        &mut self,
        slot: SessionSlot,
        inner: &Inner<'a>,
        meta: &mut PacketMeta,
        now_ns: u64,
    ) -> Option<Turned<'a>> {
        let diverted = self.ruled.diverted.as_mut()?;
        if !diverted.table.has(slot.get()) {
            return None;
        }
        let mut inner = *inner;
        let message = Message::to_subscriber(&inner.ip, Some((meta.src_port, meta.dst_port)))?;
        let edit = match message {
            Message::Flow(flow, signal) => {
                let edit = diverted.table.back(slot.get(), (&flow, signal), now_ns)?;
                let ports = (edit.remote().1, edit.own_port());
                if matches!(inner.ip.protocol, protocol::TCP | protocol::UDP) {
                    (meta.src_port, meta.dst_port) = ports;
                }
                set_ports(&mut inner.transport, ports);
                edit
            }
            Message::Error(flow) => diverted.table.error_back(slot.get(), &flow)?,
        };
        inner.ip.src = edit.shown(inner.ip.src);
        meta.src = inner.ip.src;
        Some(Turned { inner, edit })
    }

    /// Where a subscriber's packet goes instead of where it asked for; `None`: there.
    ///
    /// # Errors
    ///
    /// [`DropReason::NotRedirectable`], [`DropReason::RedirectTableFull`], and what forbids a
    /// destination.
    #[inline(never)]
    pub(super) fn turn_away(
        &mut self,
        slot: SessionSlot,
        redirect: Option<RedirectAt>,
        (inner, meta): (&Inner<'_>, &PacketMeta),
        now_ns: u64,
    ) -> Result<Option<Readdress>, DropReason> {
        let nothing = redirect.map_or(Ok(None), |_| Err(DropReason::NotRedirectable));
        let (ruled, diverted) = self.ruled.ruled_and_diverted(slot);
        let (Some(ruled), Some(diverted)) = (ruled, diverted) else {
            return nothing;
        };
        if redirect.is_none() && ruled.block.redirects().is_empty() {
            return nothing;
        }
        let ports = Some((meta.src_port, meta.dst_port));
        let edit = match Message::from_subscriber(&inner.ip, ports) {
            None => return nothing,
            Some(Message::Error(flow)) => match diverted.table.error_away(slot.get(), &flow) {
                None => return nothing,
                Some(edit) => edit,
            },
            Some(Message::Flow(flow, signal)) => {
                let to = match redirect {
                    Some(at) => ruled.block.redirect(at).and_then(|to| to.of(flow.remote)),
                    None if is_asked(&ruled.block, &flow) => Some(flow.remote),
                    None => return Ok(None),
                };
                let to = to.ok_or(DropReason::NotRedirectable)?;
                diverted.kept.speak_of(ruled.seid);
                let kept = &mut diverted.kept;
                let made = (diverted.table).away(slot.get(), (&flow, signal), to, now_ns, kept);
                match (made, redirect) {
                    (Ok(edit), _) if edit.is_nothing_to(&flow) => return Ok(None),
                    (Ok(edit), _) => edit,
                    (Err(_), None) => return Ok(None),
                    (Err(RedirectRefusal::NoFlow), Some(_)) => {
                        return Err(DropReason::NotRedirectable);
                    }
                    (Err(RedirectRefusal::Full), Some(_)) => {
                        return Err(DropReason::RedirectTableFull);
                    }
                }
            }
        };
        let udp_port = inner.udp_port().map(|_| edit.remote().1);
        let to: IpAddr = edit.remote().0;
        self.check_destination(to, udp_port)?;
        Ok(Some(edit))
    }

    /// The edit of a planned packet.
    #[inline]
    pub(crate) fn edit_of(&self, plan: &Planned<'_>) -> Option<Readdress> {
        self.ruled.measured.get(usize::from(plan.measured))?.edit
    }

    /// Sends a burst with edited packets where nothing else is done to any.
    #[inline(never)]
    pub(crate) fn send_edited<A: PacketSink, B: PacketSink>(
        &mut self,
        ports: &mut Ports<A, B>,
        planned: &mut [Planned<'_>],
    ) -> Sent {
        // Taken out for the burst, so that it and the plane can be used together.
        let Some(mut diverted) = self.ruled.diverted.take() else {
            return Sent::All;
        };
        let mut bodies = [&[][..]; BURST_MAX];
        for ((plan, head), body) in planned
            .iter_mut()
            .zip(diverted.heads.iter_mut())
            .zip(&mut bodies)
        {
            let rewrite = &mut diverted.rewrite;
            let edited = match self.edit_of(plan) {
                None => {
                    *body = plan.body;
                    head.set(plan.head.as_slice(), &[], plan.body.len())
                }
                Some(edit) => {
                    let sound = rewrite.load(plan.body).is_ok() && edit.apply(rewrite).is_ok();
                    *body = rewrite.body(plan.body);
                    sound && head.set(plan.head.as_slice(), rewrite.head(), rewrite.total_len())
                }
            };
            if !edited {
                plan.accepted = false;
                self.arena.count_drop(DropReason::TranslateMalformed, 1);
            }
        }
        let mut sent = Sent::All;
        for way in [Side::N6, Side::N3] {
            let mut items = [Outgoing::EMPTY; BURST_MAX];
            let mut count = 0_usize;
            let all = planned.iter().zip(&diverted.heads).zip(&bodies);
            let own = all.filter(|((plan, _), _)| plan.way == way && plan.accepted);
            for (item, ((plan, head), body)) in items.iter_mut().zip(own) {
                *item = Outgoing {
                    head: head.as_slice(),
                    body,
                    to: plan.to,
                };
                count = count.saturating_add(1);
            }
            let items = items.get(..count).unwrap_or_default();
            let accepted = match way {
                Side::N6 => self.send(&mut ports.n6, items),
                Side::N3 => self.send(&mut ports.n3, items),
            };
            if let Some(accepted) = accepted {
                let own = planned.iter_mut();
                let own = own.filter(|plan| plan.way == way && plan.accepted);
                mark_accepted(own, &accepted);
            }
        }
        if planned.iter().any(|plan| !plan.accepted) {
            sent = Sent::Part;
        }
        self.ruled.diverted = Some(diverted);
        sent
    }
}

fn row(state: &FlowState) -> RedirectRow {
    let (asked, asked_port) = state.flow.remote;
    RedirectRow {
        protocol: match (state.flow.protocol, asked) {
            (NatProtocol::Tcp, _) => protocol::TCP,
            (NatProtocol::Udp, _) => protocol::UDP,
            (NatProtocol::Icmp, IpAddr::V4(_)) => protocol::ICMP,
            (NatProtocol::Icmp, IpAddr::V6(_)) => protocol::ICMPV6,
        },
        ue_port: state.flow.own.1,
        asked: SocketAddr::new(asked, asked_port),
        to: SocketAddr::new(state.to.0, state.to.1),
        port_there: state.own_port,
    }
}

/// Whether a flow asks for a destination that others are redirected to: it must not be taken for one
/// of them.
fn is_asked(block: &RuleBlock, flow: &FlowId) -> bool {
    block
        .redirects()
        .iter()
        .any(|to| to.of(flow.remote) == Some(flow.remote))
}

fn set_ports(transport: &mut Transport<'_>, (source, destination): (u16, u16)) {
    match transport {
        Transport::Tcp(segment) => {
            (segment.src_port, segment.dst_port) = (source, destination);
        }
        Transport::Udp { src_port, dst_port } => {
            (*src_port, *dst_port) = (source, destination);
        }
        Transport::Other => {}
    }
}
